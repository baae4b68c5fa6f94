import { describe, expect, it } from 'vitest';
import {
  defaultSampling, effectiveChain, presetStages, samplingFields, type Sampling,
} from '../src/chat/sampling';

const neutral: Sampling = { ...defaultSampling, temperature: 1, minP: 0 };

describe('the chain', () => {
  it('is only the draw where nothing acts', () => {
    expect(effectiveChain(neutral)).toEqual(['draw']);
    expect(samplingFields(neutral)).toEqual({ temperature: 1 });
  });

  it('has the stages that act, in the order of the preset', () => {
    const s = { ...neutral, temperature: 0.7, topK: 40, topP: 0.9, minP: 0.1, repetition: 1.1 };
    expect(effectiveChain(s)).toEqual(
      ['penalties', 'temperature', 'top_k', 'top_p', 'min_p', 'draw']);
    expect(effectiveChain({ ...s, preset: 'llamacpp' })).toEqual(
      ['penalties', 'top_k', 'top_p', 'min_p', 'temperature', 'draw']);
    for (const stages of Object.values(presetStages)) {
      expect([...stages].sort()).toEqual([...presetStages.default].sort());
    }
  });

  it('greedy leaves out what only removes candidates, and is told so', () => {
    const s = { ...neutral, temperature: 0, topK: 40, dryMultiplier: 1, mirostat: true };
    expect(effectiveChain(s)).toEqual(['dry', 'greedy']);
    expect(samplingFields(s)).toEqual({ temperature: 0, dry_multiplier: 1 });
  });

  it('mirostat replaces what removes candidates: the server refuses both together', () => {
    const s = { ...neutral, temperature: 0.8, topP: 0.5, xtcProbability: 0.5, mirostat: true };
    expect(effectiveChain(s)).toEqual(['temperature', 'mirostat']);
    expect(samplingFields(s)).toEqual({ temperature: 0.8, mirostat: 2, mirostat_tau: 5 });
  });

  it('xtc that can drop nothing does not act', () => {
    expect(effectiveChain({ ...neutral, xtcProbability: 0.5, xtcThreshold: 0.6 })).toEqual(['draw']);
  });
});

describe('fields of free text', () => {
  it('takes numbers that are numbers', () => {
    expect(samplingFields({ ...neutral, seed: ' 42 ', maxTokens: '10' })).toMatchObject(
      { seed: 42, max_tokens: 10 });
    for (const bad of ['x', '1.5', '', '1e99', '-3']) {
      expect(samplingFields({ ...neutral, maxTokens: bad })).not.toHaveProperty('max_tokens');
    }
  });

  it('takes one stop text per line, with escapes', () => {
    expect(samplingFields({ ...neutral, stop: 'END\n\\n\\n\n\na\\\\n' }).stop).toEqual(
      ['END', '\n\n', 'a\\n']);
  });
});
