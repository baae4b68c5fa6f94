// Every block of a layer group as one small square: free, cached for reuse, owned, shared.
import { useEffect, useRef, useState } from 'preact/hooks';
import { useSchemeVersion, useWidth } from '../ui/hooks';
import { cellClass, formatBytes, ownersOf, type BlockGroup } from './history';

const classes = ['owned', 'shared', 'cached', 'free'] as const;
const names = {
  owned: 'one owner',
  shared: 'shared',
  cached: 'kept for reuse',
  free: 'free',
  absent: 'given back',
};

interface Props {
  group: BlockGroup;
  highlight: Set<number> | null;
}

export function BlockMap({ group, highlight }: Props) {
  const [box, width] = useWidth<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  const swatches = useRef<HTMLDivElement>(null);
  const scheme = useSchemeVersion();
  const [hover, setHover] = useState(-1);
  const cells = group.map.length;
  // Squares as large as leave the map at most 220 pixels high.
  let size = 20;
  while (size > 3 && Math.ceil(cells / Math.max(1, Math.floor(width / size))) * size > 220) --size;
  const columns = Math.max(1, Math.floor(width / size));
  const rows = Math.ceil(cells / columns);
  useEffect(() => {
    const element = canvas.current;
    if (!element || width === 0) return;
    const ratio = devicePixelRatio || 1;
    element.width = columns * size * ratio;
    element.height = rows * size * ratio;
    const context = element.getContext('2d')!;
    context.scale(ratio, ratio);
    // The style sheet's colours, whatever the scheme.
    const color: Record<string, string> = {};
    swatches.current!.querySelectorAll('[data-class]').forEach((swatch) => {
      color[swatch.getAttribute('data-class')!] = getComputedStyle(swatch).color;
    });
    const gap = size > 6 ? 2 : 1;
    for (let i = 0; i < cells; ++i) {
      const c = group.map[i]!;
      const kind = cellClass(c);
      if (kind === 'absent') continue;
      const x = (i % columns) * size;
      const y = Math.floor(i / columns) * size;
      context.fillStyle = color[kind]!;
      context.globalAlpha = highlight && !highlight.has(i) ? 0.25 : 1;
      context.fillRect(x, y, size - gap, size - gap);
      if (kind === 'shared' && size >= 9) {
        context.fillStyle = color.paper!;
        context.font = `${size - 4}px ui-monospace, monospace`;
        context.textAlign = 'center';
        context.textBaseline = 'middle';
        context.fillText(String(ownersOf(c)), x + (size - gap) / 2, y + (size - gap) / 2 + 0.5);
      }
    }
  }, [group.map, width, highlight, scheme, size]);
  const counts = { owned: group.owned, shared: group.shared, cached: group.cached, free: group.free };
  const at = hover >= 0 && hover < cells ? group.map[hover]! : '';
  return (
    <div class="block-map">
      <div class="legend" ref={swatches}>
        {classes.map((kind) => (
          <span class="key"><i class={kind} data-class={kind} />{names[kind]}<b>{counts[kind]}</b></span>
        ))}
        <i class="paper" data-class="paper" hidden />
      </div>
      <div ref={box}>
        <canvas
          ref={canvas}
          role="img"
          style={{ width: `${columns * size}px`, height: `${rows * size}px` }}
          aria-label={`${group.blocks} blocks: ${group.owned} with one owner, ${group.shared} ` +
            `shared, ${group.cached} kept for reuse, ${group.free} free`}
          onPointerMove={(e) => setHover(
            Math.floor(e.offsetY / size) * columns + Math.floor(e.offsetX / size))}
          onPointerLeave={() => setHover(-1)}
        />
      </div>
      <p class="hint">
        {at !== ''
          ? `block ${hover * group.blocks_per_cell}: ${names[cellClass(at)]}` +
            (ownersOf(at) > 1 ? ` by ${ownersOf(at)}${ownersOf(at) === 9 ? ' or more' : ''}` : '')
          : `${group.blocks} blocks of ${group.block_tokens} tokens, ` +
            `${formatBytes(group.block_bytes)} each` +
            (group.blocks_per_cell > 1 ? `; a square is ${group.blocks_per_cell} blocks` : '')}
      </p>
    </div>
  );
}
