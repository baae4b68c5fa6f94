// The sampling controls, and the chain of stages that they amount to: the order of
// src/sampling/params.h, which the browser test compares with what the server reports.

export type Preset = 'default' | 'llamacpp' | 'hf';

export interface Sampling {
  preset: Preset;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  typicalP: number;
  topNSigma: number;
  repetition: number;
  frequency: number;
  presence: number;
  dryMultiplier: number;
  xtcProbability: number;
  xtcThreshold: number;
  mirostat: boolean;
  mirostatTau: number;
  seed: string; // empty: drawn by the server
  maxTokens: string; // empty: as far as the route goes
  stop: string; // one text per line
}

export const defaultSampling: Sampling = {
  preset: 'default',
  temperature: 0.8,
  topK: 0,
  topP: 1,
  minP: 0.05,
  typicalP: 1,
  topNSigma: 0,
  repetition: 1,
  frequency: 0,
  presence: 0,
  dryMultiplier: 0,
  xtcProbability: 0,
  xtcThreshold: 0.1,
  mirostat: false,
  mirostatTau: 5,
  seed: '',
  maxTokens: '',
  stop: '',
};

export type Stage =
  | 'penalties'
  | 'dry'
  | 'top_n_sigma'
  | 'temperature'
  | 'top_k'
  | 'top_p'
  | 'min_p'
  | 'typical'
  | 'xtc';

export const presetStages: Record<Preset, Stage[]> = {
  default: [
    'penalties', 'dry', 'top_n_sigma', 'temperature', 'top_k', 'top_p', 'min_p', 'typical', 'xtc',
  ],
  llamacpp: [
    'penalties', 'dry', 'top_n_sigma', 'top_k', 'typical', 'top_p', 'min_p', 'xtc', 'temperature',
  ],
  hf: [
    'penalties', 'dry', 'temperature', 'top_k', 'top_p', 'min_p', 'typical', 'top_n_sigma', 'xtc',
  ],
};

const greedyBelow = 1e-5;
export const isGreedy = (s: Sampling) => s.temperature < greedyBelow;

const removing: Stage[] = ['top_n_sigma', 'top_k', 'top_p', 'min_p', 'typical', 'xtc'];

function turnedOn(s: Sampling, stage: Stage): boolean {
  switch (stage) {
    case 'penalties':
      return s.repetition !== 1 || s.frequency !== 0 || s.presence !== 0;
    case 'dry':
      return s.dryMultiplier > 0;
    case 'top_n_sigma':
      return s.topNSigma > 0;
    case 'temperature':
      return s.temperature !== 1;
    case 'top_k':
      return s.topK > 0;
    case 'top_p':
      return s.topP < 1;
    case 'min_p':
      return s.minP > 0;
    case 'typical':
      return s.typicalP < 1;
    case 'xtc':
      return s.xtcProbability > 0 && s.xtcThreshold <= 0.5;
  }
}

/** Whether a stage acts: greedy decoding and mirostat leave out what only removes candidates. */
export function isActive(s: Sampling, stage: Stage): boolean {
  if (!turnedOn(s, stage)) return false;
  if (isGreedy(s)) return stage !== 'temperature' && !removing.includes(stage);
  if (s.mirostat) return !removing.includes(stage);
  return true;
}

/** The stages that act, in order, and what draws the token. */
export function effectiveChain(s: Sampling): string[] {
  const stages: string[] = presetStages[s.preset].filter((stage) => isActive(s, stage));
  stages.push(isGreedy(s) ? 'greedy' : s.mirostat ? 'mirostat' : 'draw');
  return stages;
}

export const stopTexts = (s: Sampling) =>
  s.stop.split('\n').filter((line) => line !== '').map(unescapeText);

// "\n" and "\t" as one would type them into a one-line box.
function unescapeText(text: string): string {
  return text.replace(/\\(n|t|\\)/g, (_, c: string) => (c === 'n' ? '\n' : c === 't' ? '\t' : '\\'));
}

const count = (text: string): number | undefined => {
  const value = Number(text.trim());
  return text.trim() !== '' && Number.isSafeInteger(value) ? value : undefined;
};

/** The request's fields. Only what acts is sent, so that the server's own defaults hold. */
export function samplingFields(s: Sampling): Record<string, unknown> {
  const fields: Record<string, unknown> = { temperature: s.temperature };
  if (s.preset !== 'default') fields.sampler_preset = s.preset;
  if (isActive(s, 'penalties')) {
    fields.repetition_penalty = s.repetition;
    fields.frequency_penalty = s.frequency;
    fields.presence_penalty = s.presence;
  }
  if (isActive(s, 'dry')) fields.dry_multiplier = s.dryMultiplier;
  if (isActive(s, 'top_n_sigma')) fields.top_n_sigma = s.topNSigma;
  if (isActive(s, 'top_k')) fields.top_k = s.topK;
  if (isActive(s, 'top_p')) fields.top_p = s.topP;
  if (isActive(s, 'min_p')) fields.min_p = s.minP;
  if (isActive(s, 'typical')) fields.typical_p = s.typicalP;
  if (isActive(s, 'xtc')) {
    fields.xtc_probability = s.xtcProbability;
    fields.xtc_threshold = s.xtcThreshold;
  }
  if (s.mirostat && !isGreedy(s)) {
    fields.mirostat = 2;
    fields.mirostat_tau = s.mirostatTau;
  }
  const seed = count(s.seed);
  if (seed !== undefined) fields.seed = seed;
  const max = count(s.maxTokens);
  if (max !== undefined && max > 0) fields.max_tokens = max;
  const stop = stopTexts(s);
  if (stop.length > 0) fields.stop = stop;
  return fields;
}
