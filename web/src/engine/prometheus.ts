// The part of Prometheus' text format that the page needs: histograms without labels of interest.

export interface Histogram {
  bounds: number[]; // upper, ascending, the last is Infinity
  counts: number[]; // cumulative, as written
}

/** Histograms by name, summed over their other labels. */
export function parseHistograms(text: string): Map<string, Histogram> {
  const raw = new Map<string, Map<number, number>>();
  const line = /^([A-Za-z_:][\w:]*)_bucket\{(?:[^}]*,)?le="([^"]+)"[^}]*\}\s+(\S+)/gm;
  for (const [, name, le, value] of text.matchAll(line)) {
    const bound = le === '+Inf' ? Infinity : Number(le);
    const count = Number(value);
    if (Number.isNaN(bound) || !Number.isFinite(count)) continue;
    const buckets = raw.get(name!) ?? new Map<number, number>();
    buckets.set(bound, (buckets.get(bound) ?? 0) + count);
    raw.set(name!, buckets);
  }
  const out = new Map<string, Histogram>();
  for (const [name, buckets] of raw) {
    const bounds = [...buckets.keys()].sort((a, b) => a - b);
    out.set(name, { bounds, counts: bounds.map((b) => buckets.get(b)!) });
  }
  return out;
}

/** What was observed after `before`; null when the two do not fit together. */
export function since(before: Histogram | undefined, now: Histogram): Histogram {
  if (!before || before.bounds.length !== now.bounds.length) return now;
  const counts = now.counts.map((c, i) => c - before.counts[i]!);
  return counts.some((c) => c < 0) ? now : { bounds: now.bounds, counts };
}

/** Interpolated within the bucket, as Prometheus' histogram_quantile does; NaN without samples. */
export function quantile(h: Histogram, q: number): number {
  const total = h.counts[h.counts.length - 1] ?? 0;
  if (total <= 0) return NaN;
  const rank = q * total;
  const i = h.counts.findIndex((c) => c >= rank);
  const bound = h.bounds[i]!;
  const low = i > 0 ? h.bounds[i - 1]! : 0;
  if (bound === Infinity) return low;
  const below = i > 0 ? h.counts[i - 1]! : 0;
  const within = h.counts[i]! - below;
  return within > 0 ? low + ((bound - low) * (rank - below)) / within : bound;
}
