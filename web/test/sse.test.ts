import { describe, expect, it } from 'vitest';
import { SseParser, type SseEvent } from '../src/api/sse';

const all = (chunks: string[]): SseEvent[] => {
  const parser = new SseParser();
  return chunks.flatMap((chunk) => parser.push(chunk));
};

describe('server-sent events', () => {
  const stream =
    '\ufeff: hello\r\ndata: one\r\n\r\nevent: named\ndata: two\ndata:three\nid: 7\n\n' +
    'retry: 5\n\ndata\n\ndata:  spaced \r\rdata: "é — 漢"\n\ndata: never ended\n';
  const expected = [
    { event: 'message', data: 'one' },
    { event: 'named', data: 'two\nthree' },
    { event: 'message', data: '' },
    { event: 'message', data: ' spaced ' },
    { event: 'message', data: '"é — 漢"' },
  ];

  it('reads the whole', () => expect(all([stream])).toEqual(expected));

  it('reads any cut in two, and one character at a time', () => {
    for (let cut = 0; cut <= stream.length; ++cut) {
      expect(all([stream.slice(0, cut), stream.slice(cut)])).toEqual(expected);
    }
    expect(all([...stream])).toEqual(expected);
  });

  it('gives an event as soon as its blank line is there', () => {
    const parser = new SseParser();
    expect(parser.push('data: a\n')).toEqual([]);
    expect(parser.push('\n')).toEqual([{ event: 'message', data: 'a' }]);
  });
});
