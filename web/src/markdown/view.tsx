import type { ComponentChildren } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import { cutAtTokens, type TokenMark } from '../chat/tokens';
import { CopyIcon, DoneIcon } from '../ui/icons';
import { parseMarkdown, type Block, type Inline } from './parse';

interface Source {
  text: string;
  marks?: TokenMark[];
}

/** How unexpected a token was, 0 (certain) to 1 (one in a hundred or less). */
export const surprise = (logprob: number) => Math.min(1, -logprob / Math.log(100));

function range(source: Source, from: number, to: number): ComponentChildren {
  if (!source.marks || source.marks.length === 0) return source.text.slice(from, to);
  return cutAtTokens(source.marks, from, to).map(([a, b, token]) =>
    token < 0 ? (
      source.text.slice(a, b)
    ) : (
      <span class="tok" data-t={token} style={{ '--s': surprise(source.marks![token]![1]).toFixed(2) }}>
        {source.text.slice(a, b)}
      </span>
    ));
}

/** The text as it is, token by token. */
export function PlainText({ text, marks }: Source) {
  // The space between two hands' pieces is no indent.
  const from = /^ */.exec(text)![0].length;
  return <div class="plain">{range({ text, marks }, from, text.length)}</div>;
}

function inline(source: Source, nodes: Inline[]): ComponentChildren {
  return nodes.map((node) => {
    switch (node.kind) {
      case 'text':
        return range(source, node.from, node.to);
      case 'code':
        return <code>{range(source, node.from, node.to)}</code>;
      case 'strong':
        return <strong>{inline(source, node.children)}</strong>;
      case 'em':
        return <em>{inline(source, node.children)}</em>;
      case 'strike':
        return <s>{inline(source, node.children)}</s>;
      case 'link':
        return (
          <a href={node.href} target="_blank" rel="noopener noreferrer nofollow">
            {inline(source, node.children)}
          </a>
        );
      case 'break':
        return <br />;
    }
  });
}

function blocks(source: Source, nodes: Block[]): ComponentChildren {
  return nodes.map((node) => {
    switch (node.kind) {
      case 'paragraph':
        return <p>{inline(source, node.children)}</p>;
      case 'heading': {
        // The page's own headings come first.
        const Tag = `h${Math.min(6, node.level + 2)}` as 'h3';
        return <Tag class={`level${node.level}`}>{inline(source, node.children)}</Tag>;
      }
      case 'code':
        return <CodeBlock source={source} block={node} />;
      case 'quote':
        return <blockquote>{blocks(source, node.children)}</blockquote>;
      case 'list': {
        const items = node.items.map((item) => <li>{blocks(source, item)}</li>);
        return node.start === null ? <ul>{items}</ul> : <ol start={node.start}>{items}</ol>;
      }
      case 'table':
        return (
          <div class="table-scroll" tabIndex={0} role="region" aria-label="Table">
            <table>
              <thead>
                <tr>
                  {node.head.map((cell, i) => (
                    <th class={node.align[i] || undefined}>{inline(source, cell)}</th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {node.rows.map((row) => (
                  <tr>
                    {row.map((cell, i) => (
                      <td class={node.align[i] || undefined}>{inline(source, cell)}</td>
                    ))}
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        );
      case 'rule':
        return <hr />;
    }
  });
}

function CodeBlock({ source, block }: { source: Source; block: Block & { kind: 'code' } }) {
  const text = () => block.lines.map(([from, to]) => source.text.slice(from, to)).join('\n');
  return (
    <div class="code-block">
      <div class="code-head">
        <span>{block.language || 'text'}</span>
        <CopyButton text={text} label="Copy code" />
      </div>
      <pre tabIndex={0}>
        <code>
          {block.lines.map(([from, to], i) => (
            <>
              {i > 0 && '\n'}
              {range(source, from, to)}
            </>
          ))}
        </code>
      </pre>
    </div>
  );
}

export function CopyButton({ text, label }: { text: () => string; label: string }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    if (await copyText(text())) {
      setDone(true);
      setTimeout(() => setDone(false), 1500);
    }
  };
  return (
    <button type="button" class="quiet" onClick={copy} aria-label={done ? 'Copied' : label}
      title={done ? 'Copied' : label}>
      {done ? <DoneIcon /> : <CopyIcon />}
    </button>
  );
}

/** Also without a secure context, where the clipboard API is missing. */
export async function copyText(text: string): Promise<boolean> {
  try {
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(text);
      return true;
    }
  } catch {
    // Forbidden; the older way may be allowed.
  }
  const box = document.createElement('textarea');
  box.value = text;
  box.className = 'offscreen';
  document.body.append(box);
  box.select();
  const done = document.execCommand('copy');
  box.remove();
  return done;
}

export function Markdown({ text, marks }: Source) {
  const tree = useMemo(() => parseMarkdown(text), [text]);
  return <div class="markdown">{blocks({ text, marks }, tree)}</div>;
}
