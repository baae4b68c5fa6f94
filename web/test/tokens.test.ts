import { describe, expect, it } from 'vitest';
import { cutAtTokens, perplexity, TokenAligner, tokenAt } from '../src/chat/tokens';

const bytes = (text: string) => [...new TextEncoder().encode(text)];
const token = (text: string, raw = bytes(text)) => ({ text, bytes: raw, logprob: -1, top: [] });

describe('tokens and the text that they wrote', () => {
  it('follow the pieces', () => {
    const aligner = new TokenAligner();
    aligner.add(0, 'Hello', [token('Hel'), token('lo')]);
    aligner.add(5, ' world', [token(' world')]);
    expect(aligner.marks.map((m) => m[0])).toEqual([3, 5, 11]);
    expect(cutAtTokens(aligner.marks, 1, 8)).toEqual([[1, 3, 0], [3, 5, 1], [5, 8, 2]]);
    expect([0, 2, 3, 4, 5, 10, 11].map((p) => tokenAt(aligner.marks, p))).toEqual(
      [0, 0, 1, 1, 2, 2, -1]);
  });

  it('may be parts of one character', () => {
    const aligner = new TokenAligner();
    const [a, b, c] = bytes('漢');
    aligner.add(0, '漢x', [
      token('\ufffd', [a!]), token('\ufffd', [b!]), token('\ufffd', [c!]), token('x'),
    ]);
    expect(aligner.marks.map((m) => m[0])).toEqual([0, 0, 1, 2]);
    expect(tokenAt(aligner.marks, 0)).toBe(2);
  });

  it('may be hidden, or without the space before the first word', () => {
    const aligner = new TokenAligner();
    aligner.add(0, 'One two', [token('<s>'), token(' One'), token(' two'), token('</s>')]);
    expect(aligner.marks.map((m) => m[0])).toEqual([0, 3, 7, 7]);
  });

  it('cover the text even where they cannot be matched', () => {
    const aligner = new TokenAligner();
    aligner.add(0, 'abc', [token('xyz')]);
    aligner.add(3, 'def', [token('def')]);
    expect(cutAtTokens(aligner.marks, 0, 6)).toEqual([[0, 3, 0], [3, 6, 1]]);
  });

  it('give a perplexity', () => {
    const aligner = new TokenAligner();
    aligner.add(0, 'ab', [token('a'), token('b')]);
    expect(perplexity(aligner.marks)).toBeCloseTo(Math.E);
    expect(perplexity([])).toBeNaN();
  });
});
