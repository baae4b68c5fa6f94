// One message: its text, its attempts, and what can be done with it.
import { memo } from 'preact/compat';
import { useEffect, useRef, useState } from 'preact/hooks';
import { perplexity, type TokenMark } from '../chat/tokens';
import { shownDraft, type Draft, type Message, type Timings } from '../chat/state';
import { CopyButton, Markdown, PlainText } from '../markdown/view';
import { EditIcon, LeftIcon, RetryIcon, RightIcon, TrashIcon } from './icons';

export interface MessageActions {
  edit(id: string, text: string, again: boolean): void;
  retry(id: string): void;
  remove(id: string): void;
  show(id: string, draft: number): void;
}

interface Props {
  message: Message;
  name: string;
  plain: boolean; // as written, without Markdown
  busy: boolean; // something is being written: no changes now
  writing: 'waiting' | 'writing' | null; // whether it is this message
  tint: boolean;
  actions: MessageActions;
}

export const MessageView = memo(function MessageView(props: Props) {
  const { message, actions, busy, writing } = props;
  const [editing, setEditing] = useState(false);
  const draft = shownDraft(message);
  const answer = message.role === 'assistant';
  return (
    <article class={`message ${message.role}`} aria-label={`${props.name}:`} data-id={message.id}>
      <header>
        <span class="who">{props.name}</span>
        {message.drafts.length > 1 && (
          <span class="drafts">
            <button type="button" class="quiet" disabled={busy || message.shown === 0}
              aria-label="Earlier attempt"
              onClick={() => actions.show(message.id, message.shown - 1)}>
              <LeftIcon />
            </button>
            <span aria-label={`attempt ${message.shown + 1} of ${message.drafts.length}`}>
              {message.shown + 1}/{message.drafts.length}
            </span>
            <button type="button" class="quiet"
              disabled={busy || message.shown + 1 === message.drafts.length}
              aria-label="Later attempt"
              onClick={() => actions.show(message.id, message.shown + 1)}>
              <RightIcon />
            </button>
          </span>
        )}
      </header>
      <div class="body">
        {editing ? (
          <Editor
            text={draft.text}
            answer={answer}
            onDone={(text, again) => {
              setEditing(false);
              if (text !== null) actions.edit(message.id, text, again);
            }}
          />
        ) : (
          <>
            {draft.reasoning && (
              <details class="reasoning" open={writing !== null && draft.text === ''}>
                <summary>Reasoning</summary>
                <div class="plain">{draft.reasoning}</div>
              </details>
            )}
            <Text draft={draft} plain={props.plain} writing={writing} tint={props.tint} />
            {writing === 'waiting' && (
              <p class="phase"><span class="grind" aria-hidden="true" />grinding the ink</p>
            )}
          </>
        )}
        <Notes draft={draft} writing={writing !== null} plain={props.plain} />
        {!editing && writing === null && (
          <footer>
            {answer && draft.timings && (
              <TimingLine timings={draft.timings} marks={draft.marks} />
            )}
            <span class="actions">
              <CopyButton text={() => draft.text} label="Copy" />
              <button type="button" class="quiet" disabled={busy} aria-label="Edit" title="Edit"
                onClick={() => setEditing(true)}>
                <EditIcon />
              </button>
              <button type="button" class="quiet" disabled={busy} aria-label="Retry"
                title={answer ? 'Write it again' : 'Answer it again'}
                onClick={() => actions.retry(message.id)}>
                <RetryIcon />
              </button>
              <button type="button" class="quiet" disabled={busy} aria-label="Delete from here"
                title="Delete this and what follows" onClick={() => actions.remove(message.id)}>
                <TrashIcon />
              </button>
            </span>
          </footer>
        )}
      </div>
    </article>
  );
});

function Notes({ draft, writing, plain }: { draft: Draft; writing: boolean; plain: boolean }) {
  return (
    <>
      {draft.error && <p class="note error" role="alert">{draft.error}</p>}
      {!writing && draft.finish === 'length' && (draft.constrained || !plain) && (
        <p class="note">
          cut at the token limit{draft.constrained && ': the JSON is not complete'}
        </p>
      )}
      {!writing && draft.finish === 'stopped' && <p class="note">stopped</p>}
      {draft.warnings?.map((warning) => <p class="note">{warning}</p>)}
    </>
  );
}

// The text with its tokens: under the pointer, or walked through with the arrow keys.
function Text({ draft, plain, writing, tint }: {
  draft: Draft; plain: boolean; writing: Props['writing']; tint: boolean;
}) {
  const box = useRef<HTMLDivElement>(null);
  const [token, setToken] = useState(-1);
  const marks = draft.marks;
  const has = !!marks && marks.length > 0;
  useEffect(() => {
    if (token < 0 || !box.current) return undefined;
    const spans = box.current.querySelectorAll(`[data-t="${token}"]`);
    spans.forEach((span) => span.classList.add('here'));
    return () => spans.forEach((span) => span.classList.remove('here'));
  }, [token, draft]);
  const onKey = (event: KeyboardEvent) => {
    if (!has || event.target !== box.current) return;
    const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
    if (step === 0) return;
    event.preventDefault();
    // From the latest value: a second key press may come before this one is drawn.
    setToken((old) => Math.max(0, Math.min(marks.length - 1, old + step)));
  };
  const over = (event: Event) => {
    const span = (event.target as Element).closest?.('[data-t]');
    setToken(span ? Number(span.getAttribute('data-t')) : -1);
  };
  const Body = plain || draft.constrained ? PlainText : Markdown;
  return (
    <div
      ref={box}
      class={`text ${writing ? 'live' : ''} ${tint && has ? 'tinted' : ''} ${kindOf(draft)}`}
      tabIndex={has && !writing ? 0 : undefined}
      aria-label={has && !writing ? 'Text; arrow keys walk through its tokens' : undefined}
      role={has && !writing ? 'group' : undefined}
      onKeyDown={onKey}
      onPointerOver={has ? over : undefined}
      onPointerLeave={() => setToken(-1)}
      onBlur={() => setToken(-1)}
    >
      <Body text={draft.text} marks={marks} />
      {writing === 'writing' && <span class="caret" aria-hidden="true" />}
      {has && token >= 0 && marks[token] && (
        <TokenCard box={box.current!} index={token} marks={marks} text={draft.text} />
      )}
    </div>
  );
}

// JSON is no prose. Blank lines in it are a model's dawdling, and are not shown.
const kindOf = (draft: Draft) =>
  draft.constrained ? (/\n\s*\n/.test(draft.text) ? 'json collapsed' : 'json') : '';

const visible = (text: string) =>
  text.replace(/\n/g, '⏎').replace(/\t/g, '⇥').replace(/ /g, '\u00b7') || '∅';

const percent = (logprob: number) => {
  const p = Math.exp(logprob) * 100;
  return p >= 99.95 ? '100 %' : p >= 10 ? `${p.toFixed(1)} %` : p >= 0.01 ? `${p.toFixed(2)} %` : '< 0.01 %';
};

function TokenCard({ box, index, marks, text }: {
  box: HTMLElement; index: number; marks: TokenMark[]; text: string;
}) {
  const card = useRef<HTMLDivElement>(null);
  const [end, logprob, top] = marks[index]!;
  const own = text.slice(index > 0 ? marks[index - 1]![0] : 0, end);
  useEffect(() => {
    const span = box.querySelector(`[data-t="${index}"]`);
    const element = card.current!;
    if (!span) return;
    const at = span.getClientRects()[0] ?? span.getBoundingClientRect();
    const size = element.getBoundingClientRect();
    const left = Math.max(8, Math.min(innerWidth - size.width - 8, at.left - 12));
    const below = at.bottom + 6;
    const top = below + size.height > innerHeight - 8 ? at.top - size.height - 6 : below;
    element.style.left = `${left}px`;
    element.style.top = `${Math.max(8, top)}px`;
  }, [box, index]);
  const listed = top.some(([t]) => t === own);
  return (
    <div class="token-card" ref={card} role="status">
      <div class="token-own">
        <code>{visible(own)}</code>
        <span>{percent(logprob)}</span>
        <span class="dim">{logprob.toFixed(2)} nat</span>
      </div>
      {top.map(([t, lp]) => (
        <div class={`token-row ${t === own ? 'chosen' : ''}`}>
          <code>{visible(t)}</code>
          <span class="bar"><span style={{ width: `${Math.exp(lp) * 100}%` }} /></span>
          <span>{percent(lp)}</span>
        </div>
      ))}
      {!listed && top.length > 0 && <div class="dim">drawn from below these</div>}
    </div>
  );
}

const seconds = (s: number) => (s < 1 ? `${Math.round(s * 1000)} ms` : `${s.toFixed(2)} s`);

function TimingLine({ timings: t, marks }: { timings: Timings; marks?: TokenMark[] }) {
  const total = Math.max(1e-9, t.queue + t.prefill + t.decode);
  const rate = t.decode > 0 ? (t.completion - 1) / t.decode : 0;
  const confusion = marks && marks.length > 0 ? perplexity(marks) : NaN;
  const title =
    `queue ${seconds(t.queue)}\nprefill ${seconds(t.prefill)}: ${t.prompt} tokens, ` +
    `${t.cached} from the cache\ndecode ${seconds(t.decode)}: ${t.completion} tokens` +
    (t.seed !== undefined ? `\nseed ${t.seed}` : '') +
    (t.chain ? `\nchain ${t.chain.join(' → ')}` : '');
  return (
    <span class="timing" title={title}>
      <span class="phases" aria-hidden="true">
        <span class="queue" style={{ width: `${(100 * t.queue) / total}%` }} />
        <span class="prefill" style={{ width: `${(100 * t.prefill) / total}%` }} />
        <span class="decode" style={{ width: `${(100 * t.decode) / total}%` }} />
      </span>
      <span>
        {t.completion} tokens in {seconds(total)}
        {rate > 0 && ` · ${rate.toFixed(rate < 10 ? 1 : 0)}/s`}
        {t.cached > 0 && ` · ${t.cached} of ${t.prompt} cached`}
        {confusion < 1e4 && ` · perplexity ${confusion.toFixed(confusion < 10 ? 1 : 0)}`}
      </span>
    </span>
  );
}

function Editor({ text, answer, onDone }: {
  text: string; answer: boolean; onDone: (text: string | null, again: boolean) => void;
}) {
  const [value, setValue] = useState(text);
  const box = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    box.current!.focus();
    box.current!.setSelectionRange(text.length, text.length);
  }, []);
  useEffect(() => grow(box.current!), [value]);
  const onKey = (event: KeyboardEvent) => {
    if (event.key === 'Escape') {
      event.stopPropagation();
      onDone(null, false);
    } else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      onDone(value, !answer);
    }
  };
  return (
    <div class="editor">
      <textarea ref={box} value={value} aria-label="Edit the message" onKeyDown={onKey}
        onInput={(e) => setValue(e.currentTarget.value)} />
      <div class="row">
        {!answer && (
          <button type="button" class="primary" onClick={() => onDone(value, true)}>
            Save and answer
          </button>
        )}
        <button type="button" class={answer ? 'primary' : ''} onClick={() => onDone(value, false)}>
          Save
        </button>
        <button type="button" onClick={() => onDone(null, false)}>Cancel</button>
        <span class="hint">Ctrl+Enter saves, Esc cancels</span>
      </div>
    </div>
  );
}

/** A text box as tall as its text, up to half the window. */
export function grow(box: HTMLTextAreaElement) {
  box.style.height = 'auto';
  box.style.height = `${Math.min(box.scrollHeight + 2, innerHeight / 2)}px`;
}
