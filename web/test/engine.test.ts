import { describe, expect, it } from 'vitest';
import {
  byteCeiling, cellClass, cellsOf, formatBytes, formatSeconds, History, MemoryHistory, niceCeiling, ownersOf,
  type EngineState, type RequestInfo,
} from '../src/engine/history';
import { parseHistograms, quantile, since } from '../src/engine/prometheus';
import { errorText, readPart } from '../src/api/client';

const state = (at: number, prompt: number, generated: number): EngineState => ({
  at, prompt_tokens: prompt, generated_tokens: generated, step_seconds: at / 2, running: 1,
  waiting: 0, swapped: 0,
} as EngineState);

describe('history', () => {
  it('takes rates over about a second', () => {
    const history = new History();
    for (let i = 0; i <= 8; ++i) history.add(state(10 + i * 0.5, i * 100, i * 10));
    const last = history.samples[history.samples.length - 1]!;
    expect(last.prefill).toBeCloseTo(200);
    expect(last.decode).toBeCloseTo(20);
    expect(last.busy).toBeCloseTo(0.5);
    expect(history.samples[0]!.prefill).toBe(0);
  });

  it('leaves out what it has seen, forgets what is old, starts again with the server', () => {
    const history = new History();
    expect(history.add(state(1, 0, 0))).toBe(true);
    expect(history.add(state(1, 0, 0))).toBe(false);
    for (let i = 2; i < 400; ++i) history.add(state(i, i, i));
    expect(history.samples.length).toBeLessThanOrEqual(121);
    history.add(state(5, 0, 0));
    expect(history.samples.length).toBe(1);
    expect(history.samples[0]!.decode).toBe(0);
  });

  it('names memory entries, the largest first', () => {
    const memory = new MemoryHistory();
    memory.add(1, { total: 3, entries: { a: 1, b: 2, c: 0 }, process: { resident: 4 } });
    memory.add(2, { total: 9, entries: { a: 9 }, process: { resident: 9 } });
    expect(memory.names()).toEqual(['a', 'b']);
    memory.add(3, null);
    expect(memory.samples[2]!.total).toBe(0);
  });
});

describe('blocks', () => {
  it('have a class and owners', () => {
    expect([...' .c1A2B9I'].map(cellClass)).toEqual(
      ['absent', 'free', 'cached', 'owned', 'owned', 'shared', 'shared', 'shared', 'shared']);
    expect([...' .c1A2B9I'].map(ownersOf)).toEqual([0, 0, 0, 1, 1, 2, 2, 9, 9]);
  });

  it('of a request are cells', () => {
    const request = { blocks: [[[0, 3], [7, 2]]] } as unknown as RequestInfo;
    expect([...cellsOf(request, 0, 1)]).toEqual([0, 1, 2, 7, 8]);
    expect([...cellsOf(request, 0, 4)]).toEqual([0, 1, 2]);
    expect(cellsOf(request, 1, 1).size).toBe(0);
  });
});

describe('histograms', () => {
  const text = [
    '# TYPE t histogram', 't_bucket{le="0.1"} 2', 't_bucket{le="0.2"} 6', 't_bucket{le="+Inf"} 8',
    't_sum 1', 't_count 8', 'h_bucket{handler="/a",le="1"} 1', 'h_bucket{handler="/b",le="1"} 2',
    'h_bucket{handler="/a",le="+Inf"} 1', 'h_bucket{handler="/b",le="+Inf"} 2', 'g 4',
  ].join('\n');

  it('are read and summed', () => {
    const h = parseHistograms(text);
    expect(h.get('t')).toEqual({ bounds: [0.1, 0.2, Infinity], counts: [2, 6, 8] });
    expect(h.get('h')).toEqual({ bounds: [1, Infinity], counts: [3, 3] });
  });

  it('give quantiles, of what came since', () => {
    const t = parseHistograms(text).get('t')!;
    expect(quantile(t, 0.5)).toBeCloseTo(0.15);
    expect(quantile(t, 0.99)).toBe(0.2);
    expect(quantile({ bounds: [1, Infinity], counts: [0, 0] }, 0.5)).toBeNaN();
    const later = { ...t, counts: [12, 16, 18] };
    expect(quantile(since(t, later), 0.5)).toBeCloseTo(0.05);
    expect(since(later, t)).toBe(t);
    expect(since(undefined, t)).toBe(t);
  });
});

describe('words for numbers', () => {
  it('are short', () => {
    expect([0, 0.3, 1, 3, 23, 240, 700].map(niceCeiling)).toEqual([1, 0.5, 1, 5, 25, 250, 1000]);
    expect([0, 3, 513, 70 * 2 ** 20].map(byteCeiling)).toEqual([1, 5, 1024, 100 * 2 ** 20]);
    expect(formatBytes(1023)).toBe('1023 B');
    expect(formatBytes(15.2 * 1024 * 1024)).toBe('15.2 MiB');
    expect([0.00005, 0.0123, 1.5, 250].map(formatSeconds)).toEqual(
      ['50 µs', '12 ms', '1.50 s', '250 s']);
    expect(formatSeconds(NaN)).toBe('–');
  });
});

describe('answers of the server', () => {
  it('are read from both routes', () => {
    const chat = readPart({ choices: [{ delta: { content: 'a', reasoning_content: 'r' },
      logprobs: { content: [{ token: 'a', logprob: -1, bytes: [97], top_logprobs: [
        { token: 'b', logprob: -0.5, bytes: [98] }] }] }, finish_reason: 'stop' }] });
    expect(chat).toMatchObject({ text: 'a', reasoning: 'r', finish: 'stop',
      tokens: [{ text: 'a', bytes: [97], logprob: -1, top: [['b', -0.5]] }] });
    const completion = readPart({ choices: [{ text: 'ab', logprobs: { tokens: ['a', 'b'],
      token_logprobs: [-1, -2], top_logprobs: [{ x: -3, a: -1 }, {}] }, finish_reason: null }] });
    expect(completion.tokens).toEqual([
      { text: 'a', logprob: -1, top: [['a', -1], ['x', -3]] }, { text: 'b', logprob: -2, top: [] }]);
    expect(readPart({ choices: [] })).toEqual({ text: '', reasoning: '', tokens: [] });
    expect(() => readPart({ error: { message: 'no' } })).toThrow('no');
  });

  it('have an error text in any shape', () => {
    expect(errorText(400, '{"error":{"message":"m"}}')).toBe('m');
    expect(errorText(400, '{"error":"m"}')).toBe('m');
    expect(errorText(502, '<html>')).toBe('the server answered 502');
  });
});
