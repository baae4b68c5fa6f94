// What the engine room remembers: samples of the last minutes, and rates out of counters.

export interface RequestInfo {
  id: number;
  phase: 'queued' | 'prefill' | 'decode' | 'preempted' | 'ended';
  age_s: number;
  queue_s: number;
  prefill_s: number;
  decode_s: number;
  prompt_tokens: number;
  cached_tokens: number;
  computed_tokens: number;
  completion_tokens: number;
  max_tokens: number;
  sequences: number;
  outcome?: string;
  blocks?: [number, number][][];
}

export interface BlockGroup {
  kind: string;
  window?: number;
  block_tokens: number;
  block_bytes: number;
  blocks: number;
  free: number;
  cached: number;
  owned: number;
  shared: number;
  blocks_per_cell: number;
  map: string;
}

export interface Phase {
  steps: number;
  seconds: number;
  mfu: number | null; // shares of the machine's limits, 0 to 1; null where unknown
  mbu: number | null;
}

export interface EngineState {
  model: string;
  architecture: string;
  parameters: number;
  weight_bytes: number;
  context: number;
  at: number; // seconds of the server's steady clock
  max_sequences: number;
  requests: number;
  running: number;
  waiting: number;
  swapped: number;
  preemptions: number;
  prefix_cache_queries: number;
  prefix_cache_hits: number;
  prompt_tokens: number;
  generated_tokens: number;
  steps: number;
  step_seconds: number;
  phases?: { prefill: Phase; decode: Phase };
  groups: BlockGroup[];
  in_flight: RequestInfo[];
  ended: RequestInfo[];
}

export interface Sample {
  at: number;
  prefill: number; // tokens per second
  decode: number;
  busy: number; // share of the time inside steps, 0 to 1
  running: number;
  waiting: number;
  swapped: number;
}

const span = 120; // seconds kept
const window = 1.0; // seconds over which a rate is taken

interface Counters {
  at: number;
  prompt: number;
  generated: number;
  stepSeconds: number;
}

export class History {
  readonly samples: Sample[] = [];
  private counters: Counters[] = [];

  /** False for a description that was seen before. */
  add(s: EngineState): boolean {
    const last = this.counters[this.counters.length - 1];
    if (last && s.at === last.at) return false;
    const now: Counters = {
      at: s.at,
      prompt: s.prompt_tokens,
      generated: s.generated_tokens,
      stepSeconds: s.step_seconds,
    };
    // A server that was started anew counts from zero again, on another clock perhaps.
    if (last && (now.at < last.at || now.prompt < last.prompt || now.generated < last.generated)) {
      this.counters = [];
      this.samples.length = 0;
    }
    this.counters.push(now);
    while (this.counters.length > 2 && now.at - this.counters[1]!.at >= window) {
      this.counters.shift();
    }
    const then = this.counters[0]!;
    const seconds = now.at - then.at;
    const rate = (a: number, b: number) => (seconds > 0 ? (a - b) / seconds : 0);
    this.samples.push({
      at: now.at,
      prefill: rate(now.prompt, then.prompt),
      decode: rate(now.generated, then.generated),
      busy: Math.min(1, rate(now.stepSeconds, then.stepSeconds)),
      running: s.running,
      waiting: s.waiting,
      swapped: s.swapped,
    });
    while (this.samples.length > 0 && now.at - this.samples[0]!.at > span) this.samples.shift();
    return true;
  }
}

export interface MemorySample {
  at: number;
  entries: Record<string, number>;
  total: number;
  resident: number;
}

export class MemoryHistory {
  readonly samples: MemorySample[] = [];

  add(at: number, body: any) {
    const entries: Record<string, number> = {};
    for (const [name, bytes] of Object.entries(body?.entries ?? {})) {
      if (typeof bytes === 'number' && bytes > 0) entries[name] = bytes;
    }
    this.samples.push({
      at,
      entries,
      total: Number(body?.total) || 0,
      resident: Number(body?.process?.resident) || 0,
    });
    while (this.samples.length > 0 && at - this.samples[0]!.at > span) this.samples.shift();
  }

  /** Names of entries that were ever there, the largest now first. */
  names(): string[] {
    const seen = new Set<string>();
    for (const sample of this.samples) for (const name of Object.keys(sample.entries)) seen.add(name);
    const now = this.samples[this.samples.length - 1]?.entries ?? {};
    return [...seen].sort((a, b) => (now[b] ?? 0) - (now[a] ?? 0) || (a < b ? -1 : 1));
  }
}

/** Which cells of the map a request's blocks are in. */
export function cellsOf(request: RequestInfo, group: number, perCell: number): Set<number> {
  const out = new Set<number>();
  for (const [first, count] of request.blocks?.[group] ?? []) {
    for (let b = first; b < first + count; ++b) out.add(Math.floor(b / perCell));
  }
  return out;
}

export type CellClass = 'absent' | 'free' | 'cached' | 'owned' | 'shared';

export function cellClass(c: string): CellClass {
  if (c === ' ') return 'absent';
  if (c === '.') return 'free';
  if (c === 'c') return 'cached';
  return c === '1' || c === 'A' ? 'owned' : 'shared';
}

/** Owners of the fullest block of a cell: 0 for none, 9 for nine or more. */
export function ownersOf(c: string): number {
  if (c >= '1' && c <= '9') return Number(c);
  if (c >= 'A' && c <= 'I') return c.charCodeAt(0) - 64;
  return 0;
}

/** A round number of at least `value`: 1, 2, 2.5, 5 times a power of ten. */
export function niceCeiling(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  for (const step of [1, 2, 2.5, 5, 10]) {
    if (value <= step * power * (1 + 1e-9)) return step * power;
  }
  return 10 * power;
}

/** The same in powers of 1024, in halves of one. */
export function byteCeiling(bytes: number): number {
  const unit = 1024 ** Math.max(0, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  const value = bytes / unit;
  return unit * (value > 512 ? 1024 : niceCeiling(value));
}

export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit + 1 < units.length) {
    value /= 1024;
    ++unit;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

export function formatRate(value: number): string {
  if (value >= 1000) return Math.round(value).toLocaleString('en');
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(value > 0 ? 2 : 0);
}

export function formatShare(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  const percent = value * 100;
  return `${percent >= 9.95 ? percent.toFixed(0) : percent.toFixed(1)} %`;
}

export function formatSeconds(s: number): string {
  if (!Number.isFinite(s)) return '–';
  if (s < 0.001) return `${Math.round(s * 1e6)} µs`;
  if (s < 1) return `${s * 1000 < 10 ? (s * 1000).toFixed(1) : Math.round(s * 1000)} ms`;
  return s < 10 ? `${s.toFixed(2)} s` : s < 100 ? `${s.toFixed(1)} s` : `${Math.round(s)} s`;
}
