// A small Markdown, to a tree whose text leaves are ranges of the source: the view can then tell
// which token wrote each character. No HTML passes through; images become their links.

export type Inline =
  | { kind: 'text'; from: number; to: number }
  | { kind: 'code'; from: number; to: number }
  | { kind: 'strong' | 'em' | 'strike'; children: Inline[] }
  | { kind: 'link'; href: string; children: Inline[] }
  | { kind: 'break' };

export type Block =
  | { kind: 'paragraph'; children: Inline[] }
  | { kind: 'heading'; level: number; children: Inline[] }
  | { kind: 'code'; language: string; lines: [number, number][] }
  | { kind: 'quote'; children: Block[] }
  | { kind: 'list'; start: number | null; items: Block[][] }
  | { kind: 'table'; align: Align[]; head: Inline[][]; rows: Inline[][][] }
  | { kind: 'rule' };

export type Align = 'left' | 'center' | 'right' | '';

interface Line {
  from: number; // in the source, behind what the containers took
  to: number;
}

const maxDepth = 12;

export function parseMarkdown(source: string): Block[] {
  const lines: Line[] = [];
  let at = 0;
  for (const text of source.split('\n')) {
    const cut = text.endsWith('\r') ? 1 : 0;
    lines.push({ from: at, to: at + text.length - cut });
    at += text.length + 1;
  }
  return parseBlocks(source, lines, 0);
}

const fence = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const heading = /^ {0,3}(#{1,6})(?:[ \t]+|$)/;
const rule = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const quote = /^ {0,3}> ?/;
const bullet = /^( {0,3})([-*+])(?:[ \t]+|$)/;
const ordered = /^( {0,3})(\d{1,9})([.)])(?:[ \t]+|$)/;
const delimiterRow = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

function parseBlocks(source: string, lines: Line[], depth: number): Block[] {
  const out: Block[] = [];
  const text = (line: Line) => source.slice(line.from, line.to);
  let i = 0;
  while (i < lines.length) {
    const line = lines[i]!;
    const content = text(line);
    if (content.trim() === '') {
      ++i;
      continue;
    }
    const open = fence.exec(content);
    if (open) {
      const mark = open[1]!;
      const close = new RegExp(`^ {0,3}${mark[0] === '`' ? '`' : '~'}{${mark.length},}\\s*$`);
      const body: [number, number][] = [];
      ++i;
      // A fence that never closes is one that is still being written.
      while (i < lines.length && !close.test(text(lines[i]!))) {
        body.push([lines[i]!.from, lines[i]!.to]);
        ++i;
      }
      ++i;
      out.push({ kind: 'code', language: open[2]!.trim().split(/\s/)[0] ?? '', lines: body });
      continue;
    }
    const title = heading.exec(content);
    if (title) {
      let to = line.to;
      const closing = /[ \t]+#+[ \t]*$/.exec(content);
      if (closing && closing.index >= title[0].length) to = line.from + closing.index;
      out.push({
        kind: 'heading',
        level: title[1]!.length,
        children: parseInline(source, [{ from: line.from + title[0].length, to }]),
      });
      ++i;
      continue;
    }
    if (rule.test(content)) {
      out.push({ kind: 'rule' });
      ++i;
      continue;
    }
    if (depth < maxDepth && quote.test(content)) {
      const inner: Line[] = [];
      while (i < lines.length) {
        const here = text(lines[i]!);
        const mark = quote.exec(here);
        if (!mark && (here.trim() === '' || startsBlock(here))) break;
        inner.push({ from: lines[i]!.from + (mark ? mark[0].length : 0), to: lines[i]!.to });
        ++i;
      }
      out.push({ kind: 'quote', children: parseBlocks(source, inner, depth + 1) });
      continue;
    }
    if (depth < maxDepth && (bullet.test(content) || ordered.test(content))) {
      const [block, next] = parseList(source, lines, i, depth);
      out.push(block);
      i = next;
      continue;
    }
    if (content.includes('|') && i + 1 < lines.length && delimiterRow.test(text(lines[i + 1]!)) &&
        text(lines[i + 1]!).includes('-')) {
      const head = cells(source, line);
      const align = cells(source, lines[i + 1]!).map(alignOf(source));
      if (head.length === align.length) {
        const rows: Inline[][][] = [];
        i += 2;
        while (i < lines.length && text(lines[i]!).includes('|')) {
          const row = cells(source, lines[i]!).slice(0, head.length);
          rows.push(row.map((cell) => parseInline(source, [cell])));
          ++i;
        }
        out.push({
          kind: 'table',
          align,
          head: head.map((cell) => parseInline(source, [cell])),
          rows,
        });
        continue;
      }
    }
    const paragraph: Line[] = [];
    while (i < lines.length) {
      const here = text(lines[i]!);
      if (here.trim() === '' || (paragraph.length > 0 && startsBlock(here))) break;
      const indent = here.length - here.trimStart().length;
      paragraph.push({ from: lines[i]!.from + indent, to: lines[i]!.to });
      ++i;
    }
    out.push({ kind: 'paragraph', children: parseInline(source, paragraph) });
  }
  return out;
}

function startsBlock(line: string): boolean {
  return (
    fence.test(line) || heading.test(line) || quote.test(line) || rule.test(line) ||
    bullet.test(line) || /^ {0,3}1[.)][ \t]/.test(line)
  );
}

function parseList(
  source: string, lines: Line[], first: number, depth: number,
): [Block, number] {
  const text = (line: Line) => source.slice(line.from, line.to);
  const opening = text(lines[first]!);
  const number = ordered.exec(opening);
  const items: Block[][] = [];
  let i = first;
  while (i < lines.length) {
    const here = text(lines[i]!);
    const mark = number ? ordered.exec(here) : rule.test(here) ? null : bullet.exec(here);
    if (!mark) break;
    // Content is indented by the mark's width; after a mark alone, by one more.
    const width = mark[0].length === here.length ? mark[0].trimEnd().length + 1 : mark[0].length;
    const inner: Line[] = [{ from: lines[i]!.from + Math.min(width, here.length), to: lines[i]!.to }];
    ++i;
    let blank = false;
    while (i < lines.length) {
      const line = text(lines[i]!);
      if (line.trim() === '') {
        blank = true;
        inner.push({ from: lines[i]!.to, to: lines[i]!.to });
        ++i;
        continue;
      }
      const indent = line.length - line.trimStart().length;
      // Models indent nested lists by two or more, whatever the mark's width.
      if (indent >= Math.min(width, 2)) {
        inner.push({ from: lines[i]!.from + Math.min(indent, width), to: lines[i]!.to });
      } else if (!blank && !startsBlock(line) && !ordered.test(line)) {
        inner.push(lines[i]!);
      } else {
        break;
      }
      blank = false;
      ++i;
    }
    items.push(parseBlocks(source, inner, depth + 1));
  }
  return [{ kind: 'list', start: number ? Number(number[2]) : null, items }, i];
}

function cells(source: string, line: Line): Line[] {
  const out: Line[] = [];
  let from = line.from;
  let code = false;
  const push = (to: number) => {
    let a = from;
    let b = to;
    while (a < b && /\s/.test(source[a]!)) ++a;
    while (b > a && /\s/.test(source[b - 1]!)) --b;
    out.push({ from: a, to: b });
  };
  let at = line.from;
  for (; at < line.to; ++at) {
    if (source[at] === '\\') ++at;
    else if (source[at] === '`') code = !code;
    else if (source[at] === '|' && !code) {
      push(at);
      from = at + 1;
    }
  }
  push(line.to);
  if (out[0]!.from === out[0]!.to) out.shift();
  const last = out[out.length - 1];
  if (last && last.from === last.to) out.pop();
  return out;
}

const alignOf = (source: string) => (cell: Line): Align => {
  const left = source[cell.from] === ':';
  const right = source[cell.to - 1] === ':';
  return left && right ? 'center' : right ? 'right' : left ? 'left' : '';
};

/** A link that a click may follow; null for any other scheme. */
export function safeHref(url: string): string | null {
  // Browsers drop control characters and spaces when they read a scheme.
  const clean = url.replace(/[\u0000-\u0020]/g, '');
  return /^(https?:\/\/|mailto:)/i.test(clean) ? clean : null;
}

const word = /[\p{L}\p{N}_]/u;

function parseInline(source: string, lines: Line[], depth = 0): Inline[] {
  const out: Inline[] = [];
  lines.forEach((line, index) => {
    let to = line.to;
    let hard = false;
    if (index + 1 < lines.length) {
      const trailing = /( {2,}|\\)$/.exec(source.slice(line.from, to));
      if (trailing) {
        hard = true;
        to -= trailing[0].length;
      }
    }
    inlineRange(source, line.from, to, depth, out);
    if (index + 1 < lines.length) {
      if (hard) out.push({ kind: 'break' });
      // The line break itself is a character that some token wrote.
      else pushText(out, line.to, line.to + 1);
    }
  });
  return out;
}

function pushText(out: Inline[], from: number, to: number) {
  if (from >= to) return;
  const last = out[out.length - 1];
  if (last?.kind === 'text' && last.to === from) last.to = to;
  else out.push({ kind: 'text', from, to });
}

function inlineRange(source: string, from: number, to: number, depth: number, out: Inline[]) {
  let at = from;
  let plain = from;
  const flush = () => pushText(out, plain, at);
  while (at < to) {
    const c = source[at]!;
    if (c === '\\' && at + 1 < to && /[!-/:-@[-`{-~]/.test(source[at + 1]!)) {
      flush();
      pushText(out, at + 1, at + 2);
      at += 2;
      plain = at;
      continue;
    }
    if (c === '`') {
      let width = 1;
      while (source[at + width] === '`' && at + width < to) ++width;
      const end = closingTicks(source, at + width, to, width);
      if (end >= 0) {
        flush();
        let a = at + width;
        let b = end;
        if (b - a > 2 && source[a] === ' ' && source[b - 1] === ' ') {
          ++a;
          --b;
        }
        out.push({ kind: 'code', from: a, to: b });
        at = end + width;
        plain = at;
        continue;
      }
      at += width;
      continue;
    }
    if (depth < maxDepth && (c === '*' || c === '_' || c === '~')) {
      const found = emphasis(source, at, from, to, depth);
      if (found) {
        flush();
        out.push(found[0]);
        at = found[1];
        plain = at;
        continue;
      }
      while (at < to && source[at] === c) ++at;
      continue;
    }
    if (depth < maxDepth && (c === '[' || (c === '!' && source[at + 1] === '['))) {
      const open = c === '!' ? at + 1 : at;
      const link = linkAt(source, open, to, depth);
      if (link) {
        flush();
        out.push(link[0]);
        at = link[1];
        plain = at;
        continue;
      }
    }
    if (c === 'h' && (at === from || !word.test(source[at - 1]!))) {
      const url = /^https?:\/\/[^\s<>"'`|\\]+/.exec(source.slice(at, Math.min(to, at + 2048)));
      if (url) {
        const end = at + url[0].replace(/[.,;:!?*_)\]}]+$/, '').length;
        const href = safeHref(source.slice(at, end));
        if (href && end > at + 8) {
          flush();
          out.push({ kind: 'link', href, children: [{ kind: 'text', from: at, to: end }] });
          at = end;
          plain = at;
          continue;
        }
      }
    }
    ++at;
  }
  flush();
}

function closingTicks(source: string, from: number, to: number, width: number): number {
  let at = from;
  while (at < to) {
    const next = source.indexOf('`', at);
    if (next < 0 || next >= to) return -1;
    let end = next;
    while (end < to && source[end] === '`') ++end;
    if (end - next === width) return next;
    at = end;
  }
  return -1;
}

function emphasis(
  source: string, at: number, from: number, to: number, depth: number,
): [Inline, number] | null {
  const c = source[at]!;
  let run = 1;
  while (at + run < to && source[at + run] === c) ++run;
  if (c === '~' && run !== 2) return null;
  if (run > 3) return null;
  const after = source[at + run];
  if (after === undefined || at + run >= to || /\s/.test(after)) return null;
  const before = at > from ? source[at - 1]! : ' ';
  if (c === '_' && word.test(before)) return null;
  // The nearest run of the same length that closes.
  let end = at + run;
  while (end < to) {
    if (source[end] === '\\') {
      end += 2;
      continue;
    }
    if (source[end] === '`') {
      let width = 1;
      while (end + width < to && source[end + width] === '`') ++width;
      const close = closingTicks(source, end + width, to, width);
      end = close >= 0 ? close + width : end + width;
      continue;
    }
    if (source[end] !== c) {
      ++end;
      continue;
    }
    let width = 1;
    while (end + width < to && source[end + width] === c) ++width;
    const closes =
      !/\s/.test(source[end - 1]!) &&
      !(c === '_' && end + width < to && word.test(source[end + width]!));
    if (width === run && closes) break;
    end += width;
  }
  if (end >= to) return null;
  const children: Inline[] = [];
  inlineRange(source, at + run, end, depth + 1, children);
  if (c === '~') return [{ kind: 'strike', children }, end + run];
  if (run === 1) return [{ kind: 'em', children }, end + 1];
  const strong: Inline = { kind: 'strong', children };
  return [run === 2 ? strong : { kind: 'em', children: [strong] }, end + run];
}

function linkAt(source: string, open: number, to: number, depth: number): [Inline, number] | null {
  let level = 0;
  let close = open;
  for (; close < to; ++close) {
    if (source[close] === '\\') ++close;
    else if (source[close] === '[') ++level;
    else if (source[close] === ']' && --level === 0) break;
  }
  if (close >= to || source[close + 1] !== '(') return null;
  let end = close + 2;
  let parens = 0;
  for (; end < to; ++end) {
    if (source[end] === '(') ++parens;
    else if (source[end] === ')' && parens-- === 0) break;
  }
  if (end >= to) return null;
  const target = source.slice(close + 2, end).trim().replace(/\s+["'(].*$/s, '');
  const href = safeHref(target.replace(/^<(.*)>$/, '$1'));
  const children: Inline[] = [];
  inlineRange(source, open + 1, close, depth + 1, children);
  if (!href) return [{ kind: 'em', children }, end + 1];
  return [{ kind: 'link', href, children }, end + 1];
}
