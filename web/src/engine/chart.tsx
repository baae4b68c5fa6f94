// Areas over the last two minutes, stacked or on top of each other.
import { useMemo, useState } from 'preact/hooks';
import { useWidth } from '../ui/hooks';
import { niceCeiling } from './history';

export interface Series {
  name: string;
  /** A class of style.css that sets `color`. */
  tone: string;
  values: number[];
}

interface Props {
  label: string;
  times: number[]; // seconds, ascending
  series: Series[];
  format: (value: number) => string;
  stacked?: boolean;
  height?: number;
  /** A line above the areas, e.g. the operating system's count. */
  line?: Series;
  ceiling?: (max: number) => number;
}

const seconds = 120;

export function Chart(props: Props) {
  const { times, series, format, stacked, line } = props;
  const height = props.height ?? 110;
  const [box, width] = useWidth<HTMLDivElement>();
  const [at, setAt] = useState(-1);
  const n = times.length;
  const end = n > 0 ? times[n - 1]! : 0;
  const x = (t: number) => ((t - (end - seconds)) / seconds) * width;
  const { tops, max } = useMemo(() => {
    const tops: number[][] = [];
    const sum = new Array<number>(n).fill(0);
    for (const s of series) {
      tops.push(s.values.map((v, i) => (stacked ? (sum[i] = sum[i]! + v) : v)));
    }
    let max = 0;
    for (const list of tops) for (const v of list) max = Math.max(max, v);
    for (const v of line?.values ?? []) max = Math.max(max, v);
    return { tops, max: (props.ceiling ?? niceCeiling)(max) };
  }, [times, series, line, stacked]);
  const y = (v: number) => height - (v / max) * (height - 4);
  const path = (values: number[]) =>
    values.map((v, i) => `${i === 0 ? 'M' : 'L'}${x(times[i]!).toFixed(1)} ${y(v).toFixed(1)}`).join('');
  const area = (values: number[], under: number[] | null) => {
    if (n === 0) return '';
    const back = under
      ? [...under.keys()].reverse()
        .map((i) => `L${x(times[i]!).toFixed(1)} ${y(under[i]!).toFixed(1)}`).join('')
      : `L${x(times[n - 1]!).toFixed(1)} ${height}L${x(times[0]!).toFixed(1)} ${height}`;
    return `${path(values)}${back}Z`;
  };
  const move = (event: PointerEvent) => {
    const left = event.offsetX / Math.max(1, width);
    const t = end - seconds + left * seconds;
    let best = -1;
    for (let i = 0; i < n; ++i) {
      if (best < 0 || Math.abs(times[i]! - t) < Math.abs(times[best]! - t)) best = i;
    }
    setAt(best);
  };
  const shown = at >= 0 && at < n ? at : n - 1;
  return (
    <figure class="chart" aria-label={props.label}>
      <figcaption>
        {[...series, ...(line ? [line] : [])].map((s) => (
          <span class={`key ${s.tone} ${s === line ? 'stroke' : ''}`}>
            <i aria-hidden="true" />{s.name}
            <b>{n > 0 ? format(s.values[shown] ?? 0) : '–'}</b>
          </span>
        ))}
        {at >= 0 && n > 0 && <span class="ago">{Math.round(end - times[shown]!)} s ago</span>}
      </figcaption>
      <div class="plot" ref={box}>
        <svg width={width} height={height} onPointerMove={move} onPointerLeave={() => setAt(-1)}
          aria-hidden="true">
          {[0.5, 1].map((f) => (
            <line class="grid" x1="0" x2={width} y1={y(max * f)} y2={y(max * f)} />
          ))}
          {[30, 60, 90].map((s) => (
            <line class="grid" x1={x(end - s)} x2={x(end - s)} y1="0" y2={height} />
          ))}
          {width > 0 && series.map((s, k) => (
            <g class={s.tone}>
              <path class="area" d={area(tops[k]!, stacked && k > 0 ? tops[k - 1]! : null)} />
              {s.values.some((v) => v > 0) && <path class="edge" d={path(tops[k]!)} />}
            </g>
          ))}
          {width > 0 && line && n > 0 && (
            <g class={line.tone}><path class="edge dashed" d={path(line.values)} /></g>
          )}
          {at >= 0 && n > 0 && (
            <line class="cursor" x1={x(times[shown]!)} x2={x(times[shown]!)} y1="0" y2={height} />
          )}
        </svg>
        <span class="top-label">{format(max)}</span>
      </div>
    </figure>
  );
}
