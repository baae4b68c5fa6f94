// Requests in flight and the last that ended, each as a bar of its phases: now is at the right.
import { formatRate, formatSeconds, type RequestInfo } from './history';

const maxEnded = 10;

interface Props {
  inFlight: RequestInfo[];
  ended: RequestInfo[];
  onPoint: (id: number | null) => void;
}

/** The axis: the next of these that holds every request in flight. */
const spans = [5, 10, 30, 60, 120, 300, 600, 1800, 3600];

export function Timeline({ inFlight, ended, onPoint }: Props) {
  const oldest = Math.max(5, ...inFlight.map((r) => r.age_s), ...ended.slice(0, 3).map((r) => r.age_s));
  const span = spans.find((s) => s >= Math.min(oldest, 120)) ?? 3600;
  const past = ended.filter((r) => r.age_s - r.queue_s - r.prefill_s - r.decode_s < span)
    .slice(0, maxEnded);
  const rows = [...inFlight, ...past];
  return (
    <div class="timeline">
      <div class="legend">
        <span class="key"><i class="queue" />queue</span>
        <span class="key"><i class="prefill" />prefill</span>
        <span class="key"><i class="decode" />decode</span>
        <span class="ago">the last {span} s</span>
      </div>
      {rows.length === 0 ? (
        <p class="quiet-line">Nothing in flight. What is asked of the server shows up here.</p>
      ) : (
        <ol>
          {rows.map((r) => (
            <li key={r.id} class={r.phase === 'ended' ? 'ended' : ''} tabIndex={r.blocks ? 0 : undefined}
              onPointerEnter={() => r.blocks && onPoint(r.id)} onPointerLeave={() => onPoint(null)}
              onFocus={() => r.blocks && onPoint(r.id)} onBlur={() => onPoint(null)}>
              <span class="id">{r.id}</span>
              <span class="state">{r.phase === 'ended' ? r.outcome : r.phase}</span>
              <span class="what">{describe(r)}</span>
              <Bar request={r} span={span} />
            </li>
          ))}
        </ol>
      )}
    </div>
  );
}

function describe(r: RequestInfo): string {
  const parts = [`${r.prompt_tokens} in`];
  if (r.cached_tokens > 0) parts[0] += ` (${r.cached_tokens} cached)`;
  if (r.phase === 'prefill') {
    parts.push(`${Math.round((100 * Math.min(r.computed_tokens, r.prompt_tokens)) / r.prompt_tokens)} % read`);
  }
  if (r.completion_tokens > 0) {
    parts.push(r.phase === 'ended' ? `${r.completion_tokens} out` : `${r.completion_tokens} of ${r.max_tokens} out`);
    if (r.completion_tokens > 1 && r.decode_s > 0) {
      parts.push(`${formatRate((r.completion_tokens - 1) / r.decode_s)}/s`);
    }
  }
  if (r.sequences > 1) parts.push(`${r.sequences} sequences`);
  return parts.join(' · ');
}

function Bar({ request: r, span }: { request: RequestInfo; span: number }) {
  const start = span - r.age_s;
  let at = start;
  const phases: [string, number][] = [
    ['queue', r.queue_s], ['prefill', r.prefill_s], ['decode', r.decode_s],
  ];
  return (
    <span class="track" role="img"
      aria-label={`queue ${formatSeconds(r.queue_s)}, prefill ${formatSeconds(r.prefill_s)}, ` +
        `decode ${formatSeconds(r.decode_s)}`}
      title={phases.map(([name, s]) => `${name} ${formatSeconds(s)}`).join('\n')}>
      {phases.map(([name, length]) => {
        const from = Math.max(0, at);
        const to = Math.max(0, (at += length));
        return to > from && (
          <span class={name} style={{
            left: `${(100 * from) / span}%`,
            width: `max(1px, ${(100 * (to - from)) / span}%)`,
          }} />
        );
      })}
    </span>
  );
}
