// Which characters of an answer each token wrote. Tokens come with the pieces of text that they
// made; a token may be part of a character, or hidden (an end mark, a stop string).

/** [end in the answer's text, log-probability, most probable tokens there]. */
export type TokenMark = [end: number, logprob: number, top: [string, number][]];

export interface TokenLog {
  text: string;
  bytes?: number[];
  logprob: number;
  top: [string, number][];
}

const round = (x: number) => Math.round(x * 1000) / 1000;

export class TokenAligner {
  readonly marks: TokenMark[] = [];
  private at = 0;
  private decoder = new TextDecoder('utf-8');

  /** `from`: where this piece begins in the text; the tokens that came with it. */
  add(from: number, piece: string, tokens: TokenLog[]) {
    this.at = Math.max(this.at, from);
    const end = from + piece.length;
    for (const token of tokens) {
      const text = token.bytes
        ? this.decoder.decode(Uint8Array.from(token.bytes), { stream: true })
        : token.text;
      const rest = piece.slice(this.at - from);
      if (text !== '' && rest.startsWith(text)) {
        this.at += text.length;
      } else if (text.trimStart() !== '' && rest.startsWith(text.trimStart())) {
        // The space before a text's first word is not written.
        this.at += text.trimStart().length;
      }
      this.marks.push([
        this.at,
        round(token.logprob),
        token.top.map(([t, lp]): [string, number] => [t, round(lp)]),
      ]);
    }
    // What no token matched belongs to the last one.
    const last = this.marks[this.marks.length - 1];
    if (tokens.length > 0 && last && this.at < end) last[0] = end;
    this.at = end;
  }
}

/** Index of the token that wrote the character at `position`, or -1. */
export function tokenAt(marks: TokenMark[], position: number): number {
  let low = 0;
  let high = marks.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (marks[middle]![0] <= position) low = middle + 1;
    else high = middle;
  }
  return low < marks.length ? low : -1;
}

/** Cuts [from, to) at token borders: [start, end, token or -1]. */
export function cutAtTokens(
  marks: TokenMark[], from: number, to: number,
): [number, number, number][] {
  const out: [number, number, number][] = [];
  let at = from;
  while (at < to) {
    const token = tokenAt(marks, at);
    const end = token < 0 ? to : Math.min(to, marks[token]![0]);
    out.push([at, end, token]);
    at = end;
  }
  return out;
}

/** Perplexity of the tokens: exp of the mean surprise. */
export function perplexity(marks: TokenMark[]): number {
  if (marks.length === 0) return NaN;
  let sum = 0;
  for (const mark of marks) sum -= mark[1];
  return Math.exp(sum / marks.length);
}
