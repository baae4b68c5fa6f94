// Server-sent events (WHATWG HTML, 9.2.6) out of chunks cut anywhere.

export interface SseEvent {
  event: string;
  data: string;
}

export class SseParser {
  private rest = '';
  private event = '';
  private data: string[] = [];
  private started = false;

  push(chunk: string): SseEvent[] {
    let text = this.rest + chunk;
    if (!this.started && text.length > 0) {
      this.started = true;
      if (text.charCodeAt(0) === 0xfeff) text = text.slice(1);
    }
    const out: SseEvent[] = [];
    let at = 0;
    for (;;) {
      const end = nextBreak(text, at);
      // A carriage return at the end may be half of a pair.
      if (end < 0 || (text[end] === '\r' && end + 1 === text.length)) break;
      this.line(text.slice(at, end), out);
      at = end + (text[end] === '\r' && text[end + 1] === '\n' ? 2 : 1);
    }
    this.rest = text.slice(at);
    return out;
  }

  private line(line: string, out: SseEvent[]) {
    if (line === '') {
      if (this.data.length > 0) {
        out.push({ event: this.event || 'message', data: this.data.join('\n') });
      }
      this.event = '';
      this.data = [];
      return;
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? '' : line.slice(colon + 1);
    if (value.startsWith(' ')) value = value.slice(1);
    if (field === 'data') this.data.push(value);
    if (field === 'event') this.event = value;
  }
}

function nextBreak(text: string, from: number): number {
  for (let i = from; i < text.length; ++i) {
    const c = text.charCodeAt(i);
    if (c === 10 || c === 13) return i;
  }
  return -1;
}
