import { describe, expect, it } from 'vitest';
import { parseMarkdown, safeHref, type Block, type Inline } from '../src/markdown/parse';

// The tree as text, for comparison.
function inline(source: string, nodes: Inline[]): string {
  return nodes.map((n) => {
    switch (n.kind) {
      case 'text': return source.slice(n.from, n.to);
      case 'code': return `<code>${source.slice(n.from, n.to)}</code>`;
      case 'break': return '<br>';
      case 'link': return `<a ${n.href}>${inline(source, n.children)}</a>`;
      default: return `<${n.kind}>${inline(source, n.children)}</${n.kind}>`;
    }
  }).join('');
}
function block(source: string, b: Block): string {
  const many = (list: Block[]) => list.map((x) => block(source, x)).join('');
  switch (b.kind) {
    case 'paragraph': return `<p>${inline(source, b.children)}</p>`;
    case 'heading': return `<h${b.level}>${inline(source, b.children)}</h${b.level}>`;
    case 'code':
      return `<pre ${b.language}>${b.lines.map(([f, t]) => source.slice(f, t)).join('\n')}</pre>`;
    case 'quote': return `<quote>${many(b.children)}</quote>`;
    case 'list': {
      const items = b.items.map((i) => `<li>${many(i)}</li>`).join('');
      return b.start === null ? `<ul>${items}</ul>` : `<ol ${b.start}>${items}</ol>`;
    }
    case 'table':
      return `<table ${b.align.join(',')}>` +
        [b.head, ...b.rows].map((r) => r.map((c) => inline(source, c)).join('|')).join('/') + '</table>';
    case 'rule': return '<hr>';
  }
}
const show = (source: string) => parseMarkdown(source).map((b) => block(source, b)).join('');

describe('Markdown', () => {
  it.each([
    ['plain text', '<p>plain text</p>'],
    ['a *b* **c** ***d*** ~~e~~ `f *g*`',
      '<p>a <em>b</em> <strong>c</strong> <em><strong>d</strong></em> <strike>e</strike> <code>f *g*</code></p>'],
    ['**bold with *em* inside**', '<p><strong>bold with <em>em</em> inside</strong></p>'],
    ['2 * 3 * 4 and snake_case_name', '<p>2 * 3 * 4 and snake_case_name</p>'],
    ['\\*not\\* \\`code\\`', '<p>*not* `code`</p>'],
    ['**open', '<p>**open</p>'],
    ['``a ` b``', '<p><code>a ` b</code></p>'],
    ['# One\n## Two ##\n#no', '<h1>One</h1><h2>Two</h2><p>#no</p>'],
    ['a\nb\n\nc  \nd', '<p>a\nb</p><p>c<br>d</p>'],
    ['- a\n- b\n  - c\n\n1. x\n2. y',
      '<ul><li><p>a</p></li><li><p>b</p><ul><li><p>c</p></li></ul></li></ul><ol 1><li><p>x</p></li><li><p>y</p></li></ol>'],
    ['3. three\n4. four', '<ol 3><li><p>three</p></li><li><p>four</p></li></ol>'],
    ['> a\n> > b\nlazy', '<quote><p>a</p><quote><p>b\nlazy</p></quote></quote>'],
    ['```js\nlet a = `*b*`;\n\n  x\n```\nafter', '<pre js>let a = `*b*`;\n\n  x</pre><p>after</p>'],
    ['~~~\n```\n~~~', '<pre >```</pre>'],
    ['```py\nstill being written', '<pre py>still being written</pre>'],
    ['- item\n\n  ```\n  code\n  ```', '<ul><li><p>item</p><pre >code</pre></li></ul>'],
    ['***\n---', '<hr><hr>'],
    ['| a | b |\n|---|:-:|\n| 1 | `x|y` |\n| 2 |', '<table ,center>a|b/1|<code>x|y</code>/2</table>'],
    ['a | b', '<p>a | b</p>'],
    ['[text](https://a.b/c_(d) "title") end', '<p><a https://a.b/c_(d)>text</a> end</p>'],
    ['see https://a.b/c?d=e_f_g, or not.', '<p>see <a https://a.b/c?d=e_f_g>https://a.b/c?d=e_f_g</a>, or not.</p>'],
    ['![pic](https://a.b/c.png)', '<p><a https://a.b/c.png>pic</a></p>'],
    ['[x](javascript:alert(1))', '<p><em>x</em></p>'],
    ['<img src=x onerror=alert(1)>', '<p><img src=x onerror=alert(1)></p>'],
    ['', ''],
  ])('%j', (source, expected) => expect(show(source)).toBe(expected));

  it('follows only schemes that cannot run', () => {
    expect(safeHref('https://a')).toBe('https://a');
    expect(safeHref('mailto:a@b')).toBe('mailto:a@b');
    for (const bad of ['javascript:x', 'JaVaScRiPt:x', ' java\nscript:x', '\u0001javascript:x',
      'data:text/html,x', 'vbscript:x', '//a', '/a', 'x', 'blob:x', 'file:///etc']) {
      expect(safeHref(bad)).toBeNull();
    }
  });

  it('has leaves that are ranges in order, whatever the text', () => {
    const alphabet = ['a', ' ', '\n', '*', '_', '`', '#', '-', '|', '[', ']', '(', ')', '>', '1.', '~', '\\', '漢', '!'];
    let state = 12345;
    const next = (n: number) => {
      state = (state * 1103515245 + 12345) & 0x7fffffff;
      return (state >> 8) % n;
    };
    for (let round = 0; round < 3000; ++round) {
      let source = '';
      for (let k = next(60); k > 0; --k) source += alphabet[next(alphabet.length)];
      let last = 0;
      const visit = (value: unknown): void => {
        if (Array.isArray(value)) {
          value.forEach(visit);
          return;
        }
        if (typeof value !== 'object' || value === null) return;
        const node = value as { from?: number; to?: number };
        if (node.from !== undefined && node.to !== undefined) {
          expect(node.from).toBeGreaterThanOrEqual(last);
          expect(node.to).toBeGreaterThanOrEqual(node.from);
          expect(node.to).toBeLessThanOrEqual(source.length);
          last = node.to;
        }
        Object.values(value).forEach(visit);
      };
      visit(parseMarkdown(source));
    }
  }, 60000);

  it('ends soon and does not nest without end', () => {
    const start = performance.now();
    for (const evil of ['>'.repeat(5000), '- '.repeat(5000), '['.repeat(4000), '*a '.repeat(3000),
      '`'.repeat(5001), '**'.repeat(3000) + 'x', '|'.repeat(3000) + '\n' + '|-'.repeat(1500)]) {
      parseMarkdown(evil);
    }
    // 0.3 s here; quadratic in the depth would be minutes.
    expect(performance.now() - start).toBeLessThan(20000);
  }, 60000);
});
