// Conversations as plain data, and every change of them as a function from old to new.
import type { TokenMark } from './tokens';

export type Role = 'user' | 'assistant';

export interface Timings {
  queue: number; // seconds
  prefill: number;
  decode: number;
  prompt: number; // tokens
  cached: number;
  completion: number;
  seed?: number;
  chain?: string[];
}

/** One text that was written: an answer has one per attempt. */
export interface Draft {
  text: string;
  reasoning?: string;
  marks?: TokenMark[];
  timings?: Timings;
  finish?: 'stop' | 'length' | 'stopped' | 'error' | 'tool_calls';
  error?: string;
  warnings?: string[];
  constrained?: boolean; // by a JSON Schema
  edited?: boolean;
}

export interface Message {
  id: string;
  role: Role;
  drafts: Draft[]; // at least one
  shown: number;
}

export interface Conversation {
  id: string;
  title: string; // empty: from the first message
  system: string;
  updated: number; // milliseconds since 1970
  messages: Message[];
}

let counter = 0;
export const newId = () => `${Date.now().toString(36)}-${(counter++).toString(36)}`;

export const newConversation = (now = Date.now()): Conversation => ({
  id: newId(),
  title: '',
  system: '',
  updated: now,
  messages: [],
});

export const newMessage = (role: Role, text = ''): Message => ({
  id: newId(),
  role,
  drafts: [{ text }],
  shown: 0,
});

export const shownDraft = (m: Message): Draft => m.drafts[m.shown]!;
export const textOf = (m: Message) => shownDraft(m).text;

export function titleOf(c: Conversation): string {
  if (c.title) return c.title;
  const first = c.messages.find((m) => textOf(m).trim() !== '');
  if (!first) return 'Untitled';
  const line = textOf(first).trim().split('\n')[0]!;
  return line.length > 60 ? line.slice(0, 59).trimEnd() + '…' : line;
}

function change(c: Conversation, messages: Message[]): Conversation {
  return { ...c, messages, updated: Date.now() };
}

export const append = (c: Conversation, ...messages: Message[]) =>
  change(c, [...c.messages, ...messages]);

/** Replaces the shown draft of a message. */
export function updateDraft(c: Conversation, id: string, draft: Draft): Conversation {
  return change(
    c,
    c.messages.map((m) =>
      m.id === id ? { ...m, drafts: m.drafts.map((d, i) => (i === m.shown ? draft : d)) } : m),
  );
}

export function showDraft(c: Conversation, id: string, shown: number): Conversation {
  return change(
    c,
    c.messages.map((m) =>
      m.id === id && shown >= 0 && shown < m.drafts.length ? { ...m, shown } : m),
  );
}

/** Without the message and all that follow it. */
export function cutAt(c: Conversation, id: string): Conversation {
  const index = c.messages.findIndex((m) => m.id === id);
  return index < 0 ? c : change(c, c.messages.slice(0, index));
}

/** A person's own text in place of a message's; its tokens and timings no longer apply. */
export function editText(c: Conversation, id: string, text: string): Conversation {
  return updateDraft(c, id, { text, edited: true });
}

/**
 * The conversation as it must be to write the answer that `id` stands for again: up to that answer,
 * with an empty draft to write into, or with a new answer behind the user's message. Also the id of
 * the answer.
 */
export function prepareRetry(c: Conversation, id: string): [Conversation, string] {
  const index = c.messages.findIndex((m) => m.id === id);
  if (index < 0) throw new Error(`no message ${id}`);
  const message = c.messages[index]!;
  const following = c.messages[index + 1];
  if (message.role === 'user' && following?.role !== 'assistant') {
    const answer = newMessage('assistant');
    return [change(c, [...c.messages.slice(0, index + 1), answer]), answer.id];
  }
  const at = message.role === 'user' ? index + 1 : index;
  const old = c.messages[at]!;
  // An attempt that wrote nothing is not worth keeping.
  const kept = old.drafts.filter((d) => d.text !== '' || d.reasoning);
  const again: Message = { ...old, drafts: [...kept, { text: '' }], shown: kept.length };
  return [change(c, [...c.messages.slice(0, at), again]), again.id];
}

export interface ChatMessage {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

/** What the chat route gets to write the answer `answerId`: everything before it. */
export function chatMessages(c: Conversation, answerId: string): ChatMessage[] {
  const out: ChatMessage[] = [];
  if (c.system.trim() !== '') out.push({ role: 'system', content: c.system });
  for (const m of c.messages) {
    if (m.id === answerId) break;
    const text = textOf(m);
    if (text !== '' || m.role === 'user') out.push({ role: m.role, content: text });
  }
  return out;
}

const noSpaceBefore = /^[\s.,;:!?)\]}'’”"…]/;

/** Joins two pieces of a text that is written on: with a space unless one is there or wrong. */
export function joinPieces(left: string, right: string): string {
  if (left === '' || right === '') return left + right;
  if (/\s$/.test(left) || noSpaceBefore.test(right)) return left + right;
  return `${left} ${right}`;
}

/** The text before the answer `answerId`. A model's piece follows as it came, token for token. */
export function promptText(c: Conversation, answerId: string): string {
  let text = '';
  for (const m of c.messages) {
    if (m.id === answerId) break;
    text = m.role === 'assistant' ? text + textOf(m) : joinPieces(text, textOf(m));
  }
  return text;
}

// Storage.

export const storageKey = 'inkstone.conversations';
const maxConversations = 200;

function isDraft(d: unknown): d is Draft {
  return typeof d === 'object' && d !== null && typeof (d as Draft).text === 'string';
}

function isMessage(m: unknown): m is Message {
  const x = m as Message;
  return (
    typeof m === 'object' && m !== null && typeof x.id === 'string' &&
    (x.role === 'user' || x.role === 'assistant') && Array.isArray(x.drafts) &&
    x.drafts.length > 0 && x.drafts.every(isDraft) && Number.isInteger(x.shown) &&
    x.shown >= 0 && x.shown < x.drafts.length
  );
}

function isConversation(c: unknown): c is Conversation {
  const x = c as Conversation;
  return (
    typeof c === 'object' && c !== null && typeof x.id === 'string' &&
    typeof x.title === 'string' && typeof x.system === 'string' &&
    typeof x.updated === 'number' && Array.isArray(x.messages) && x.messages.every(isMessage)
  );
}

/** What is stored and has the right shape; the rest, of another version perhaps, is left out. */
export function parseConversations(json: string | null): Conversation[] {
  if (json === null) return [];
  try {
    const value: unknown = JSON.parse(json);
    return Array.isArray(value) ? value.filter(isConversation) : [];
  } catch {
    return [];
  }
}

function withoutMarks(c: Conversation): Conversation {
  return {
    ...c,
    messages: c.messages.map((m) => ({
      ...m,
      drafts: m.drafts.map(({ marks: _, ...draft }) => draft),
    })),
  };
}

/**
 * Texts to store under a size, the best first: everything; without the token probabilities of all
 * but the newest; without any; and ever fewer of the oldest conversations.
 */
export function* storedForms(all: Conversation[]): Generator<string> {
  const filled = all
    .filter((c) => c.messages.length > 0)
    .sort((a, b) => b.updated - a.updated)
    .slice(0, maxConversations);
  yield JSON.stringify(filled);
  yield JSON.stringify(filled.map((c, i) => (i === 0 ? c : withoutMarks(c))));
  const bare = filled.map(withoutMarks);
  for (let n = bare.length; n > 0; n = n >> 1) yield JSON.stringify(bare.slice(0, n));
}

export function loadConversations(storage: Storage): Conversation[] {
  return parseConversations(storage.getItem(storageKey));
}

/**
 * This tab's conversations after another tab stored `after` in place of `before`: the newer of each,
 * without what the other one deleted. `busy` is being written here and stays as it is. The same list
 * where nothing changes.
 */
export function mergeStored(
  mine: Conversation[], before: Conversation[], after: Conversation[], busy?: string,
): Conversation[] {
  const theirs = new Map(after.map((c) => [c.id, c]));
  const deleted = new Set(before.filter((c) => !theirs.has(c.id)).map((c) => c.id));
  let changed = false;
  const out: Conversation[] = [];
  for (const c of mine) {
    const other = theirs.get(c.id);
    theirs.delete(c.id);
    if (c.id !== busy && deleted.has(c.id)) {
      changed = true;
    } else if (c.id !== busy && other && other.updated > c.updated) {
      changed = true;
      out.push(other);
    } else {
      out.push(c);
    }
  }
  for (const c of theirs.values()) {
    changed = true;
    out.push(c);
  }
  if (!changed) return mine;
  return out.length > 0 ? out : [newConversation()];
}

/** False when not even the newest conversation fits. */
export function saveConversations(storage: Storage, all: Conversation[]): boolean {
  for (const text of storedForms(all)) {
    try {
      storage.setItem(storageKey, text);
      return true;
    } catch {
      // Over the quota: the next form is smaller.
    }
  }
  return false;
}
