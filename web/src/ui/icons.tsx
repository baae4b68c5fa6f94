// Line drawings, 20 by 20.
import type { ComponentChildren } from 'preact';

const icon = (children: ComponentChildren) => () => (
  <svg class="icon" viewBox="0 0 20 20" aria-hidden="true">{children}</svg>
);

export const CopyIcon = icon(<path d="M7 7h9v9H7zM4 13V4h9" />);
export const DoneIcon = icon(<path d="M4 10.5l4 4 8-9" />);
export const EditIcon = icon(<path d="M4 16l1-4L13.5 3.5l3 3L8 15z" />);
export const RetryIcon = icon(<path d="M15.5 7A6.5 6.5 0 1 0 16.5 11M16 3v4.5h-4.5" />);
export const TrashIcon = icon(<path d="M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6" />);
export const PlusIcon = icon(<path d="M10 4v12M4 10h12" />);
export const MenuIcon = icon(<path d="M3 6h14M3 10h14M3 14h14" />);
export const SlidersIcon = icon(
  <path d="M3 6h7M14 6h3M3 14h3M10 14h7M12 4v4M8 12v4" />,
);
export const CloseIcon = icon(<path d="M5 5l10 10M15 5L5 15" />);
export const LeftIcon = icon(<path d="M12 5l-5 5 5 5" />);
export const RightIcon = icon(<path d="M8 5l5 5-5 5" />);
export const SunIcon = icon(
  <path d="M10 6.5a3.5 3.5 0 1 1 0 7a3.5 3.5 0 0 1 0-7M10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.300 4.300l1 1M14.700 14.700l1 1M15.700 4.300l-1 1M5.300 14.700l-1 1" />,
);
export const MoonIcon = icon(<path d="M15.5 12A6.5 6.5 0 1 1 8 4.5a5 5 0 0 0 7.5 7.5z" />);
export const AutoIcon = icon(
  <><circle cx="10" cy="10" r="6.5" /><path class="solid" d="M10 3.5a6.5 6.5 0 0 1 0 13z" /></>,
);

/** The inkstone seen from above: the well holds as much ink as the cache holds text. */
export function Mark({ level, size = 28 }: { level: number; size?: number }) {
  const height = 2 + Math.max(0, Math.min(1, level)) * 17;
  return (
    <svg class="mark" width={size} height={size} viewBox="0 0 28 28" aria-hidden="true">
      <clipPath id="well"><rect x="8" y="4.5" width="12" height="19" rx="4" /></clipPath>
      <rect class="stone" x="4" y="1" width="20" height="26" rx="5" />
      <rect class="well" x="8" y="4.5" width="12" height="19" rx="4" />
      <rect class="ink" x="8" y={23.5 - height} width="12" height={height} clip-path="url(#well)" />
    </svg>
  );
}
