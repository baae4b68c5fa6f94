// The writing room: conversations, the one that is open, and what is being written.
import { useCallback, useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { ApiError, stream, type ModelEntry, type Part } from '../api/client';
import { buildRequest, effectiveMode, type Settings } from '../chat/request';
import {
  append, cutAt, editText, loadConversations, mergeStored, newConversation, newMessage,
  parseConversations, prepareRetry, saveConversations, shownDraft, showDraft, storageKey, titleOf, updateDraft, type Conversation, type Draft,
} from '../chat/state';
import { TokenAligner } from '../chat/tokens';
import { useStored } from './hooks';
import { CloseIcon, MenuIcon, PlusIcon, SlidersIcon, TrashIcon } from './icons';
import { grow, MessageView, type MessageActions } from './message';
import { SettingsPanel } from './settings';

interface Props {
  hidden: boolean;
  models: ModelEntry[];
  model: ModelEntry | undefined;
  settings: Settings;
  onSettings: (change: (old: Settings) => Settings) => void;
  apiKey: string;
  keepKey: boolean;
  onKey: (key: string, keep: boolean) => void;
  wantsKey: boolean;
}

interface Running {
  conversation: string;
  answer: string;
  phase: 'waiting' | 'writing';
  abort: AbortController;
}

/** The width in style.css from which on the settings stand beside the page. */
const overlayBelow = 1080;

const openings = [
  'Once upon a time',
  'The old lighthouse keeper had one rule:',
  'In the middle of the night, the fox',
];

export function ChatRoom(props: Props) {
  const { settings, model } = props;
  const [all, setAll] = useState<Conversation[]>(() => {
    const stored = loadConversations(localStorage);
    return stored.length > 0 ? stored : [newConversation()];
  });
  const [openId, setOpenId] = useState(() =>
    [...all].sort((a, b) => b.updated - a.updated)[0]!.id);
  const [running, setRunning] = useState<Running | null>(null);
  const [undo, setUndo] = useState<{ text: string; all: Conversation[]; open: string } | null>(null);
  const [listOpen, setListOpen] = useState(false);
  // Beside the page where there is room; over it otherwise, and then closed at first.
  const [settingsOpen, setSettingsOpen] = useStored(
    'inkstone.settingsOpen', false, (stored) => stored === true && innerWidth > overlayBelow);
  const settingsButton = useRef<HTMLButtonElement>(null);
  const showSettings = (on: boolean) => {
    setSettingsOpen(on);
    requestAnimationFrame(() => {
      if (on) document.querySelector<HTMLElement>('#settings button, #settings select')?.focus();
      else settingsButton.current?.focus();
    });
  };
  const [tint, setTint] = useStored('inkstone.tint', false);
  const [unsaved, setUnsaved] = useState(false);
  const input = useRef<HTMLTextAreaElement>(null);
  const latest = useRef({ all, running, settings, model, apiKey: props.apiKey });
  latest.current = { all, running, settings, model, apiKey: props.apiKey };

  const open = all.find((c) => c.id === openId) ?? all[0]!;
  const mode = effectiveMode(settings.mode, model);

  useEffect(() => {
    if (props.wantsKey) setSettingsOpen(true);
  }, [props.wantsKey]);

  // Stored a little after the last change, and when the page goes.
  useEffect(() => {
    const save = () => setUnsaved(!saveConversations(localStorage, latest.current.all));
    const timer = setTimeout(save, 600);
    addEventListener('pagehide', save);
    return () => {
      clearTimeout(timer);
      removeEventListener('pagehide', save);
    };
  }, [all]);

  // What another tab stores.
  useEffect(() => {
    const stored = (event: StorageEvent) => {
      if (event.key !== storageKey) return;
      const busy = latest.current.running?.conversation;
      setAll((old) => mergeStored(
        old, parseConversations(event.oldValue), parseConversations(event.newValue), busy));
    };
    addEventListener('storage', stored);
    return () => removeEventListener('storage', stored);
  }, []);

  const change = useCallback((id: string, f: (c: Conversation) => Conversation) => {
    setAll((old) => old.map((c) => (c.id === id ? f(c) : c)));
  }, []);

  const stop = useCallback(() => latest.current.running?.abort.abort(), []);

  const generate = useCallback(async (conversation: Conversation, answer: string) => {
    const { settings, model, apiKey } = latest.current;
    const abort = new AbortController();
    const id = conversation.id;
    setRunning({ conversation: id, answer, phase: 'waiting', abort });
    const request = buildRequest(conversation, answer, settings, model);
    const aligner = new TokenAligner();
    let draft: Draft = { text: '' };
    if (request.body.response_format) draft.constrained = true;
    let timer = 0;
    const show = () => {
      timer = 0;
      const shown = { ...draft, marks: aligner.marks.length > 0 ? [...aligner.marks] : undefined };
      change(id, (c) => updateDraft(c, answer, shown));
    };
    const onPart = (part: Part) => {
      if (part.text === '' && part.reasoning === '' && part.tokens.length === 0 &&
          !part.finish && !part.timings && !part.warnings) return;
      if (part.text !== '' || part.reasoning !== '') {
        setRunning((r) => (r && r.phase === 'waiting' ? { ...r, phase: 'writing' } : r));
      }
      const from = draft.text.length;
      if (part.text !== '' || part.reasoning === '') aligner.add(from, part.text, part.tokens);
      draft = {
        ...draft,
        text: draft.text + part.text,
        reasoning: part.reasoning ? (draft.reasoning ?? '') + part.reasoning : draft.reasoning,
        finish: (part.finish as Draft['finish']) ?? draft.finish,
        timings: part.timings ?? draft.timings,
        warnings: part.warnings ?? draft.warnings,
      };
      if (timer === 0) timer = window.setTimeout(show, 40);
    };
    try {
      await stream(request.path, request.body, apiKey, abort.signal, onPart);
    } catch (e) {
      if (abort.signal.aborted) {
        draft = { ...draft, finish: 'stopped' };
      } else {
        const text = e instanceof ApiError ? e.message
          : `the connection failed: ${e instanceof Error ? e.message : String(e)}`;
        draft = { ...draft, finish: 'error', error: text };
      }
    }
    clearTimeout(timer);
    show();
    setRunning(null);
  }, [change]);

  const send = useCallback((text: string) => {
    const { all, running, settings, model } = latest.current;
    const c = all.find((x) => x.id === openId);
    if (!c || running) return false;
    const writeOn = effectiveMode(settings.mode, model) === 'write';
    if (text.trim() === '' && !(writeOn && c.messages.length > 0)) return false;
    const answer = newMessage('assistant');
    const next = text === '' || text.trim() === '' ? append(c, answer)
      : append(c, newMessage('user', text), answer);
    change(c.id, () => next);
    void generate(next, answer.id);
    return true;
  }, [openId, change, generate]);

  const keepForUndo = (text: string) =>
    setUndo({ text, all: latest.current.all, open: openId });
  useEffect(() => {
    if (!undo) return undefined;
    const timer = setTimeout(() => setUndo(null), 8000);
    return () => clearTimeout(timer);
  }, [undo]);

  const actions: MessageActions = useMemo(() => {
    const find = () => latest.current.all.find((c) => c.id === openId)!;
    const again = (c: Conversation, id: string) => {
      const [next, answer] = prepareRetry(c, id);
      const lost = c.messages.length - next.messages.length;
      if (lost > 0) keepForUndo(lost === 1 ? 'One later message was cut.' : `${lost} later messages were cut.`);
      change(c.id, () => next);
      void generate(next, answer);
    };
    return {
      edit(id, text, answer) {
        const edited = editText(find(), id, text);
        if (answer && !latest.current.running) again(edited, id);
        else change(edited.id, (c) => editText(c, id, text));
      },
      retry(id) {
        if (!latest.current.running) again(find(), id);
      },
      remove(id) {
        const c = find();
        keepForUndo('Deleted.');
        change(c.id, () => cutAt(c, id));
      },
      show(id, draft) {
        change(openId, (c) => showDraft(c, id, draft));
      },
    };
  }, [openId, change, generate]);

  const create = () => {
    const empty = all.find((c) => c.messages.length === 0);
    if (empty) setOpenId(empty.id);
    else {
      const made = newConversation();
      setAll((old) => [made, ...old]);
      setOpenId(made.id);
    }
    setListOpen(false);
    requestAnimationFrame(() => input.current?.focus());
  };
  const removeConversation = (id: string) => {
    keepForUndo('Conversation deleted.');
    if (running?.conversation === id) stop();
    const rest = all.filter((c) => c.id !== id);
    const left = rest.length > 0 ? rest : [newConversation()];
    setAll(left);
    if (id === openId) setOpenId(left[0]!.id);
  };

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (props.hidden || event.defaultPrevented) return;
      const typing = event.target instanceof Element &&
        event.target.matches('input, textarea, select');
      if (event.key === 'Escape') {
        if (listOpen) setListOpen(false);
        else if (latest.current.running) stop();
        else if (settingsOpen && (innerWidth <= overlayBelow ||
                 (event.target instanceof Element && event.target.closest('#settings')))) {
          showSettings(false);
        }
      } else if (event.key === '/' && !typing && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        input.current?.focus();
      }
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, [props.hidden, listOpen, settingsOpen]);

  // The end stays in view while it is written, unless the reader went up.
  const scroller = useRef<HTMLDivElement>(null);
  const follow = useRef(true);
  useEffect(() => {
    const box = scroller.current;
    if (box && follow.current) box.scrollTop = box.scrollHeight;
  });
  useEffect(() => {
    follow.current = true;
    const box = scroller.current;
    if (box) box.scrollTop = box.scrollHeight;
  }, [openId, props.hidden]);

  const here = running?.conversation === open.id ? running : null;
  const sorted = useMemo(() => [...all].sort((a, b) => b.updated - a.updated), [all]);
  const answerName = model?.id ?? 'model';

  return (
    <div class={`writing ${settingsOpen ? 'with-settings' : ''}`} hidden={props.hidden}>
      <aside class={`list ${listOpen ? 'open' : ''}`} aria-label="Conversations" id="conversations">
        <div class="panel-head">
          <button type="button" class="new" onClick={create}><PlusIcon />New page</button>
          <button type="button" class="quiet only-narrow" aria-label="Close the list"
            onClick={() => setListOpen(false)}>
            <CloseIcon />
          </button>
        </div>
        <ul>
          {sorted.map((c) => (
            <li key={c.id} class={c.id === open.id ? 'current' : ''}>
              <button type="button" class="title" aria-current={c.id === open.id ? 'true' : undefined}
                onClick={() => {
                  setOpenId(c.id);
                  setListOpen(false);
                }}>
                {titleOf(c)}
                {running?.conversation === c.id && <span class="dot" aria-label="being written" />}
              </button>
              {c.messages.length > 0 && (
                <button type="button" class="quiet" aria-label={`Delete “${titleOf(c)}”`}
                  title="Delete" onClick={() => removeConversation(c.id)}>
                  <TrashIcon />
                </button>
              )}
            </li>
          ))}
        </ul>
        {unsaved && <p class="note error">This browser’s storage is full: not saved.</p>}
      </aside>
      {listOpen && <div class="shade" onClick={() => setListOpen(false)} />}

      <main id={props.hidden ? undefined : 'main'} tabIndex={-1}>
        <div class="bar">
          <button type="button" class="quiet only-narrow" aria-label="Conversations"
            aria-expanded={listOpen} aria-controls="conversations"
            onClick={() => setListOpen(!listOpen)}>
            <MenuIcon />
          </button>
          <h1>{titleOf(open)}</h1>
          <span class="model-name">
            {answerName}{mode === 'write' && <span class="dim"> · writes on</span>}
          </span>
          <button type="button" class="quiet" aria-label="Settings" title="Settings"
            ref={settingsButton} aria-expanded={settingsOpen} aria-controls="settings"
            onClick={() => showSettings(!settingsOpen)}>
            <SlidersIcon />
          </button>
        </div>
        <div class="scroll" ref={scroller} tabIndex={-1}
          onScroll={(e) => {
            const box = e.currentTarget;
            follow.current = box.scrollHeight - box.scrollTop - box.clientHeight < 60;
          }}>
          <div class={`sheet ${mode}`}>
            {open.messages.length === 0 ? (
              <Empty mode={mode} name={answerName} onPick={send} />
            ) : (
              open.messages.map((message) => (
                <MessageView
                  key={message.id}
                  message={message}
                  name={message.role === 'user' ? 'You' : answerName}
                  plain={mode === 'write' || message.role === 'user'}
                  busy={running !== null}
                  writing={here?.answer === message.id
                    ? (shownDraft(message).text || shownDraft(message).reasoning
                      ? 'writing' : 'waiting')
                    : null}
                  tint={tint}
                  actions={actions}
                />
              ))
            )}
          </div>
        </div>
        {undo && (
          <div class="toast" role="status">
            {undo.text}{' '}
            <button type="button" class="link" onClick={() => {
              stop();
              setAll(undo.all);
              setOpenId(undo.open);
              setUndo(null);
            }}>Undo</button>
          </div>
        )}
        <Composer
          boxRef={input}
          mode={mode}
          started={open.messages.length > 0}
          running={running !== null}
          schema={settings.schemaOn}
          onSchema={() => showSettings(true)}
          onSend={(text) => {
            follow.current = true;
            return send(text);
          }}
          onStop={stop}
        />
        <p class="sr-only" role="status">
          {here ? (here.phase === 'waiting' ? 'Reading the prompt' : 'Writing') : ''}
        </p>
      </main>

      {settingsOpen && (
        <SettingsPanel
          settings={settings}
          onSettings={props.onSettings}
          system={open.system}
          onSystem={(system) => change(open.id, (c) => ({ ...c, system }))}
          models={props.models}
          model={model}
          apiKey={props.apiKey}
          keepKey={props.keepKey}
          onKey={props.onKey}
          tint={tint}
          onTint={setTint}
          onClose={() => showSettings(false)}
        />
      )}
    </div>
  );
}

function Empty({ mode, name, onPick }: {
  mode: 'chat' | 'write'; name: string; onPick: (text: string) => void;
}) {
  return (
    <div class="empty">
      <p class="large">{mode === 'write' ? 'Begin a text.' : 'A clean page.'}</p>
      <p>
        {mode === 'write' ? (
          <>
            <b>{name}</b> holds no conversations: it writes on from your words. Type how it begins,
            or take one of these.
          </>
        ) : (
          <>Ask <b>{name}</b> something, or set a system prompt in the settings first.</>
        )}
      </p>
      {mode === 'write' && (
        <ul class="openings">
          {openings.map((text) => (
            <li>
              <button type="button" onClick={() => onPick(text)}>{text}&thinsp;…</button>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

function Composer(props: {
  boxRef: { current: HTMLTextAreaElement | null };
  mode: 'chat' | 'write';
  started: boolean;
  running: boolean;
  schema: boolean;
  onSchema: () => void;
  onSend: (text: string) => boolean;
  onStop: () => void;
}) {
  const [text, setText] = useState('');
  const send = () => {
    if (props.onSend(text)) setText('');
  };
  useEffect(() => {
    if (props.boxRef.current) grow(props.boxRef.current);
  }, [text]);
  const write = props.mode === 'write';
  const empty = text.trim() === '';
  return (
    <form class="composer" onSubmit={(e) => {
      e.preventDefault();
      if (props.running) props.onStop();
      else send();
    }}>
      <div class="composer-box">
        <textarea
          ref={props.boxRef}
          rows={1}
          value={text}
          aria-label={write ? 'Your words' : 'Your message'}
          placeholder={write
            ? (props.started ? 'Add to it, or let it write on…' : 'Begin a text…')
            : 'Write to it…'}
          onInput={(e) => setText(e.currentTarget.value)}
          onKeyDown={(e) => {
            // Enter also ends the composition of a character; that one is not ours.
            if (e.key !== 'Enter' || e.shiftKey || e.isComposing) return;
            e.preventDefault();
            if (!props.running) send();
          }}
        />
        {props.running ? (
          <button type="submit" class="primary stop">Stop</button>
        ) : (
          <button type="submit" class="primary" disabled={empty && !(write && props.started)}>
            {write && empty && props.started ? 'Write on' : write ? 'Write' : 'Send'}
          </button>
        )}
      </div>
      <p class="hint">
        {props.schema && (
          <button type="button" class="chip" onClick={props.onSchema}>JSON Schema on</button>
        )}
        <span class="keys">
          {props.running ? <><kbd>Esc</kbd> stops</> : (
            <><kbd>Enter</kbd> sends · <kbd>Shift Enter</kbd> new line · <kbd>/</kbd> comes here</>
          )}
        </span>
      </p>
    </form>
  );
}
