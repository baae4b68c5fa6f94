import { describe, expect, it } from 'vitest';
import {
  append, chatMessages, cutAt, editText, joinPieces, mergeStored, newConversation, newMessage,
  parseConversations, prepareRetry, promptText, saveConversations, showDraft, shownDraft,
  storedForms, textOf, titleOf, updateDraft, type Conversation,
} from '../src/chat/state';
import { buildRequest, effectiveMode, schemaProblem, type Settings } from '../src/chat/request';
import { defaultSampling } from '../src/chat/sampling';

function talk(...texts: string[]): Conversation {
  const messages = texts.map((t, i) => newMessage(i % 2 === 0 ? 'user' : 'assistant', t));
  return append(newConversation(), ...messages);
}

describe('changes of a conversation', () => {
  it('leave the old one as it was', () => {
    const c = talk('a', 'b');
    const before = JSON.stringify(c);
    editText(c, c.messages[0]!.id, 'x');
    updateDraft(c, c.messages[1]!.id, { text: 'y' });
    cutAt(c, c.messages[0]!.id);
    prepareRetry(c, c.messages[1]!.id);
    expect(JSON.stringify(c)).toBe(before);
  });

  it('retry of an answer adds an attempt and drops what follows', () => {
    const c = talk('q1', 'a1', 'q2', 'a2');
    const [next, answer] = prepareRetry(c, c.messages[1]!.id);
    expect(answer).toBe(c.messages[1]!.id);
    expect(next.messages.length).toBe(2);
    expect(next.messages[1]!.drafts.map((d) => d.text)).toEqual(['a1', '']);
    expect(shownDraft(next.messages[1]!).text).toBe('');
    expect(chatMessages(next, answer)).toEqual([{ role: 'user', content: 'q1' }]);
    const back = showDraft(next, answer, 0);
    expect(textOf(back.messages[1]!)).toBe('a1');
    expect(showDraft(next, answer, 9)).toMatchObject({ messages: next.messages });
  });

  it('retry of a question answers it again, or for the first time', () => {
    const c = talk('q1', 'a1', 'q2');
    const [again, first] = prepareRetry(c, c.messages[0]!.id);
    expect(first).toBe(c.messages[1]!.id);
    expect(again.messages.length).toBe(2);
    const [more, second] = prepareRetry(c, c.messages[2]!.id);
    expect(more.messages.length).toBe(4);
    expect(more.messages[3]!.id).toBe(second);
    expect(more.messages[3]!.role).toBe('assistant');
  });

  it('does not keep empty attempts', () => {
    let c = talk('q');
    let id = '';
    for (let i = 0; i < 3; ++i) [c, id] = prepareRetry(c, c.messages[0]!.id);
    expect(c.messages[1]!.drafts.length).toBe(1);
    c = updateDraft(c, id, { text: 'done' });
    [c] = prepareRetry(c, id);
    expect(c.messages[1]!.drafts.length).toBe(2);
  });

  it('has a title from its first words', () => {
    expect(titleOf(newConversation())).toBe('Untitled');
    expect(titleOf(talk('  two\nlines'))).toBe('two');
    expect(titleOf(talk('x'.repeat(80))).length).toBe(60);
  });
});

describe('prompts', () => {
  it('a chat has its system prompt first', () => {
    const c = { ...talk('q', ''), system: 'Be brief.' };
    expect(chatMessages(c, c.messages[1]!.id)).toEqual([
      { role: 'system', content: 'Be brief.' }, { role: 'user', content: 'q' },
    ]);
  });

  it('a text that is written on is one text', () => {
    const c = talk('Once upon a time', ' there was', 'a fox', ', who', '. It', '');
    expect(promptText(c, c.messages[5]!.id)).toBe('Once upon a time there was a fox, who. It');
    expect(joinPieces('a\n', 'b')).toBe('a\nb');
    expect(joinPieces('a', ' b')).toBe('a b');
    expect(joinPieces('', 'b')).toBe('b');
  });

  const settings: Settings = {
    model: '', mode: 'auto', sampling: defaultSampling, probabilities: true,
    schemaOn: false, schema: '',
  };
  const base = { id: 'inkling', max_model_len: 512, chat_template: false };

  it('go to the route that fits the model', () => {
    expect(effectiveMode('auto', base)).toBe('write');
    expect(effectiveMode('auto', { ...base, chat_template: true })).toBe('chat');
    expect(effectiveMode('auto', undefined)).toBe('chat');
    expect(effectiveMode('chat', base)).toBe('chat');
    const c = talk('Once', '');
    const id = c.messages[1]!.id;
    const write = buildRequest(c, id, settings, base);
    expect(write.path).toBe('/v1/completions');
    expect(write.body).toMatchObject({ prompt: 'Once', max_tokens: 200, logprobs: 5 });
    const chat = buildRequest(c, id, { ...settings, mode: 'chat' }, base);
    expect(chat.path).toBe('/v1/chat/completions');
    expect(chat.body).toMatchObject({ logprobs: true, top_logprobs: 5, model: 'inkling' });
    expect(chat.body).not.toHaveProperty('max_tokens');
  });

  it('carry a schema only when it is on and JSON', () => {
    const c = talk('q', '');
    const id = c.messages[1]!.id;
    const of = (schemaOn: boolean, schema: string) =>
      buildRequest(c, id, { ...settings, schemaOn, schema }, base).body.response_format;
    expect(of(false, '{}')).toBeUndefined();
    expect(of(true, '{')).toBeUndefined();
    expect(of(true, '{"type":"null"}')).toMatchObject({
      type: 'json_schema', json_schema: { strict: true, schema: { type: 'null' } },
    });
    expect(schemaProblem('true')).toBeNull();
    expect(schemaProblem('[]')).not.toBeNull();
    expect(schemaProblem('3')).not.toBeNull();
  });
});

describe('storage', () => {
  it('takes back what it gave, and nothing of another shape', () => {
    const c = talk('a', 'b');
    const [text] = storedForms([c, newConversation()]);
    expect(parseConversations(text!)).toEqual([c]);
    for (const bad of ['', 'null', '{}', '[1,null,{"id":"x"}]',
      JSON.stringify([{ ...c, messages: [{ ...c.messages[0], shown: 4 }] }])]) {
      expect(parseConversations(bad)).toEqual([]);
    }
    expect(parseConversations(null)).toEqual([]);
  });

  it('takes over what another tab stored', () => {
    const [a, b, c] = [talk('a'), talk('b'), talk('c')];
    const newer = { ...a, title: 'newer', updated: a.updated + 1 };
    const older = { ...b, title: 'older', updated: b.updated - 1 };
    const mine = [a, b];
    expect(mergeStored(mine, [a, b], [a, b])).toBe(mine);
    expect(mergeStored(mine, [a, b], [newer, older, c])).toEqual([newer, b, c]);
    expect(mergeStored(mine, [a, b], [b])).toEqual([b]);
    expect(mergeStored(mine, [a, b], [b], a.id)).toBe(mine);
    expect(mergeStored(mine, [], [])).toBe(mine);
    expect(mergeStored([a], [a], []).length).toBe(1);
  });

  it('gives up probabilities first, then the oldest', () => {
    const many = Array.from({ length: 8 }, (_, i) => {
      const c = talk('q', 'a');
      c.updated = i;
      c.messages[1]!.drafts[0]!.marks = Array.from({ length: 50 }, (_, k) => [k, -1, []]);
      return c;
    });
    let kept = '';
    const storage = (quota: number) => ({
      setItem: (_: string, value: string) => {
        if (value.length > quota) throw new Error('quota');
        kept = value;
      },
    }) as unknown as Storage;
    expect(saveConversations(storage(1e9), many)).toBe(true);
    const whole = kept.length;
    expect(saveConversations(storage(whole - 1), many)).toBe(true);
    const trimmed = parseConversations(kept);
    expect(trimmed.length).toBe(8);
    expect(trimmed[0]!.updated).toBe(7);
    expect(trimmed[0]!.messages[1]!.drafts[0]!.marks).toBeDefined();
    expect(trimmed[1]!.messages[1]!.drafts[0]!.marks).toBeUndefined();
    expect(saveConversations(storage(700), many)).toBe(true);
    expect(parseConversations(kept)[0]!.updated).toBe(7);
    expect(saveConversations(storage(10), many)).toBe(false);
  });
});
