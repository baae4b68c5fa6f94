// The engine room: what the machine is doing, twice a second, while somebody looks.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { ApiError, get } from '../api/client';
import { BlockMap } from './block_map';
import { Chart, type Series } from './chart';
import {
  byteCeiling, cellsOf, formatBytes, formatRate, formatSeconds, formatShare, History, MemoryHistory, niceCeiling,
  type EngineState,
} from './history';
import { parseHistograms, quantile, since, type Histogram } from './prometheus';
import { Timeline } from './timeline';

const period = 500; // ms
const quantileSpan = 60; // seconds that the latencies are of

interface Latencies {
  ttft: [number, number]; // median, 95th percentile
  gap: [number, number];
}

const entryNames: Record<string, string> = {
  weights: 'weights',
  kv_cache: 'KV cache',
  recurrent_state: 'recurrent state',
  activations: 'activations',
  inputs: 'inputs',
  vocabulary: 'vocabulary',
  program: 'program',
  host_caches: 'host caches',
  load_scratch: 'loading',
  reserve: 'reserve',
  training: 'training',
};
// A tone per entry, whatever its size, so that colours do not jump.
const entryTones = Object.fromEntries(
  Object.keys(entryNames).map((name, i) => [name, `mem${i}`]));

export function EngineRoom({ apiKey, onLevel }: {
  apiKey: string; onLevel: (level: number) => void;
}) {
  const [states, setStates] = useState<EngineState[]>([]);
  const [picked, setPicked] = useState('');
  const [problem, setProblem] = useState('');
  const [latencies, setLatencies] = useState<Latencies | null>(null);
  const [pointed, setPointed] = useState<number | null>(null);
  const histories = useRef(new Map<string, History>());
  const memory = useRef(new MemoryHistory());
  const metrics = useRef<{ at: number; h: Map<string, Histogram> }[]>([]);

  useEffect(() => {
    let over = false;
    let timer = 0;
    let tick = 0;
    const abort = new AbortController();
    const once = async () => {
      const wantsMemory = tick % 2 === 0;
      const wantsMetrics = tick % 4 === 0;
      ++tick;
      const [engine, ledger, text] = await Promise.all([
        get('/v1/engine', apiKey, abort.signal).then((r) => r.json()),
        wantsMemory ? get('/v1/memory', apiKey, abort.signal).then((r) => r.json()) : null,
        wantsMetrics ? get('/metrics', apiKey, abort.signal).then((r) => r.text()) : null,
      ]);
      if (over) return;
      const models: EngineState[] = engine.models ?? [];
      for (const model of models) {
        let history = histories.current.get(model.model);
        if (!history) histories.current.set(model.model, (history = new History()));
        history.add(model);
      }
      const now = performance.now() / 1000;
      if (ledger) memory.current.add(now, ledger);
      if (text !== null) {
        const list = metrics.current;
        list.push({ at: now, h: parseHistograms(text) });
        while (list.length > 2 && now - list[1]!.at > quantileSpan) list.shift();
        const pair = (name: string): [number, number] => {
          const last = list[list.length - 1]!.h.get(name);
          if (!last) return [NaN, NaN];
          const h = list.length > 1 ? since(list[0]!.h.get(name), last) : last;
          return [quantile(h, 0.5), quantile(h, 0.95)];
        };
        setLatencies({
          ttft: pair('inkstone_time_to_first_token_seconds'),
          gap: pair('inkstone_inter_token_latency_seconds'),
        });
      }
      setStates(models);
      setProblem('');
    };
    const loop = async () => {
      // Nobody looks: nothing is asked.
      if (document.hidden) return;
      try {
        await once();
      } catch (e) {
        if (over) return;
        setProblem(e instanceof ApiError ? e.message
          : `no answer: ${e instanceof Error ? e.message : String(e)}`);
      }
      if (!over) timer = window.setTimeout(loop, period);
    };
    const visible = () => {
      clearTimeout(timer);
      if (!document.hidden) void loop();
    };
    document.addEventListener('visibilitychange', visible);
    void loop();
    return () => {
      over = true;
      abort.abort();
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', visible);
    };
  }, [apiKey]);

  const state = states.find((s) => s.model === picked) ?? states[0];
  const used = state ? sum(state.groups, (g) => (g.owned + g.shared) * g.block_bytes) : 0;
  const cached = state ? sum(state.groups, (g) => g.cached * g.block_bytes) : 0;
  const whole = state ? sum(state.groups, (g) => g.blocks * g.block_bytes) : 0;
  useEffect(() => onLevel(whole > 0 ? (used + cached) / whole : 0), [used, cached, whole]);

  if (!state) {
    return (
      <main id="main" class="engine" tabIndex={-1}>
        <h1>Engine room</h1>
        <p class={problem ? 'note error' : 'hint'}>{problem || 'going down the stairs…'}</p>
      </main>
    );
  }
  const samples = histories.current.get(state.model)?.samples ?? [];
  const last = samples[samples.length - 1];
  const hits = state.prefix_cache_queries > 0
    ? state.prefix_cache_hits / state.prefix_cache_queries : NaN;
  const request = state.in_flight.find((r) => r.id === pointed);
  return (
    <main id="main" class="engine" tabIndex={-1}>
      <div class="engine-head">
        <h1>Engine room</h1>
        {states.length > 1 ? (
          <select aria-label="Model" value={state.model}
            onChange={(e) => setPicked(e.currentTarget.value)}>
            {states.map((s) => <option value={s.model}>{s.model}</option>)}
          </select>
        ) : <span class="model-name">{state.model}</span>}
        <span class="dim facts">
          {state.architecture} · {count(state.parameters)} weights in {formatBytes(state.weight_bytes)}
          {' '}· {state.max_sequences} sequences of up to {state.context.toLocaleString('en')} tokens
        </span>
      </div>
      {problem && <p class="note error" role="alert">{problem}</p>}

      <dl class="figures">
        <Figure tone="prefill" name="grinding" unit="tok/s prefill" value={formatRate(last?.prefill ?? 0)} id="prefill-rate" />
        <Figure tone="decode" name="writing" unit="tok/s decode" value={formatRate(last?.decode ?? 0)} id="decode-rate" />
        <Figure tone="prefill" name="MFU" unit="of peak arithmetic, prefill" value={formatShare(state.phases?.prefill.mfu)} id="mfu" />
        <Figure tone="decode" name="MBU" unit="of peak bandwidth, decode" value={formatShare(state.phases?.decode.mbu)} id="mbu" />
        <Figure name="running" unit={`of ${state.max_sequences}`} value={String(state.running)} />
        <Figure name="waiting" unit={state.swapped > 0 ? `${state.swapped} swapped out` : 'in the queue'} value={String(state.waiting)} />
        <Figure name="first token" unit={`p95 ${formatSeconds(latencies?.ttft[1] ?? NaN)}`} value={formatSeconds(latencies?.ttft[0] ?? NaN)} />
        <Figure name="between tokens" unit={`p95 ${formatSeconds(latencies?.gap[1] ?? NaN)}`} value={formatSeconds(latencies?.gap[0] ?? NaN)} />
        <Figure name="prompt reused" unit="of all prompt tokens" value={Number.isNaN(hits) ? '–' : `${(hits * 100).toFixed(0)} %`} />
        <Figure name="preempted" unit="since the start" value={String(state.preemptions)} />
      </dl>

      <div class="panels">
        <section class="wide">
          <h2>Throughput</h2>
          <Throughput samples={samples} />
        </section>
        <section class="wide">
          <h2>Requests</h2>
          <Timeline inFlight={state.in_flight} ended={state.ended} onPoint={setPointed} />
          {state.requests > state.in_flight.length && (
            <p class="hint">and {state.requests - state.in_flight.length} more in the queue</p>
          )}
        </section>
        <section>
          <h2>KV blocks</h2>
          {state.groups.map((group, g) => (
            <>
              {state.groups.length > 1 && (
                <h3>{group.kind}{group.window ? `, window ${group.window}` : ''}</h3>
              )}
              <BlockMap group={group}
                highlight={request ? cellsOf(request, g, group.blocks_per_cell) : null} />
            </>
          ))}
        </section>
        <section>
          <h2>Queue</h2>
          <Queue samples={samples} />
        </section>
        <section class="wide">
          <h2>Memory</h2>
          <Memory history={memory.current} />
        </section>
      </div>
    </main>
  );
}

const sum = <T,>(list: T[], f: (item: T) => number) => list.reduce((s, item) => s + f(item), 0);

const count = (n: number) =>
  n >= 1e9 ? `${(n / 1e9).toFixed(n >= 1e10 ? 0 : 1)} G` : n >= 1e6 ? `${(n / 1e6).toFixed(n >= 1e7 ? 0 : 1)} M` : String(n);

function Figure({ name, value, unit, tone, id }: {
  name: string; value: string; unit: string; tone?: string; id?: string;
}) {
  return (
    <div class={`figure ${tone ?? ''}`}>
      <dt>{name}</dt>
      <dd><span class="value" id={id}>{value}</span><span class="unit">{unit}</span></dd>
    </div>
  );
}

function Throughput({ samples }: { samples: History['samples'] }) {
  const times = samples.map((s) => s.at);
  const one = (name: string, tone: string, f: (s: History['samples'][number]) => number): Series[] =>
    [{ name, tone, values: samples.map(f) }];
  return (
    <div class="pair">
      <Chart label="Prefill throughput" times={times} format={formatRate}
        series={one('prefill, tokens per second', 'prefill', (s) => s.prefill)} />
      <Chart label="Decode throughput" times={times} format={formatRate}
        series={one('decode, tokens per second', 'decode', (s) => s.decode)} />
    </div>
  );
}

const wholeCeiling = (max: number) => Math.max(4, niceCeiling(max));

function Queue({ samples }: { samples: History['samples'] }) {
  const times = samples.map((s) => s.at);
  return (
    <>
      <Chart label="Requests running and waiting" times={times} stacked format={(v) => String(Math.round(v))}
        ceiling={wholeCeiling}
        series={[
          { name: 'running', tone: 'decode', values: samples.map((s) => s.running) },
          { name: 'waiting', tone: 'queue', values: samples.map((s) => s.waiting - s.swapped) },
          ...(samples.some((s) => s.swapped > 0)
            ? [{ name: 'swapped out', tone: 'mem3', values: samples.map((s) => s.swapped) }] : []),
        ]} />
      <Chart label="Share of the time inside steps" times={times} height={48}
        format={(v) => `${Math.round(v * 100)} %`} ceiling={() => 1}
        series={[{ name: 'busy', tone: 'prefill', values: samples.map((s) => s.busy) }]} />
    </>
  );
}

function Memory({ history }: { history: MemoryHistory }) {
  const names = history.names();
  const samples = history.samples;
  const times = samples.map((s) => s.at);
  const now = samples[samples.length - 1];
  const series = useMemo(() => names.map((name) => ({
    name: entryNames[name] ?? name,
    tone: entryTones[name] ?? 'mem7',
    values: samples.map((s) => s.entries[name] ?? 0),
  })), [samples.length, times[0], names.join()]);
  if (!now) return <p class="hint">reading the ledger…</p>;
  return (
    <div class="ledger">
      <Chart label="Memory by ledger entry" times={times} stacked height={200} format={formatBytes}
        ceiling={byteCeiling}
        series={series}
        line={{ name: 'resident, by the system', tone: 'ink-tone', values: samples.map((s) => s.resident) }} />
      <table>
        <caption class="sr-only">The memory ledger now</caption>
        <thead><tr><th scope="col">entry</th><th scope="col" class="right">bytes</th><th scope="col" class="right">share</th></tr></thead>
        <tbody>
          {names.map((name) => (
            <tr>
              <th scope="row" class={`key ${entryTones[name] ?? 'mem7'}`}><i aria-hidden="true" />{entryNames[name] ?? name}</th>
              <td class="right">{formatBytes(now.entries[name] ?? 0)}</td>
              <td class="right dim">{((100 * (now.entries[name] ?? 0)) / Math.max(1, now.total)).toFixed(1)} %</td>
            </tr>
          ))}
          <tr class="total">
            <th scope="row">ledger</th>
            <td class="right">{formatBytes(now.total)}</td>
            <td class="right dim">{now.resident > 0 ? `${((100 * now.total) / now.resident).toFixed(1)} % of resident` : ''}</td>
          </tr>
        </tbody>
      </table>
    </div>
  );
}
