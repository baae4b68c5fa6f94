// The body of a generation request out of a conversation and the settings.
import type { ModelEntry } from '../api/client';
import { chatMessages, promptText, type Conversation } from './state';
import { samplingFields, type Sampling } from './sampling';

export type Mode = 'auto' | 'chat' | 'write';

export interface Settings {
  model: string; // empty: the server's default
  mode: Mode;
  sampling: Sampling;
  probabilities: boolean;
  schemaOn: boolean;
  schema: string;
}

export const topTokens = 5;
/** The completions route stops after 16 tokens where nothing else is said. */
export const writeOnTokens = 200;

/** A model without a chat template is no partner in conversation: its text is written on. */
export function effectiveMode(mode: Mode, model: ModelEntry | undefined): 'chat' | 'write' {
  if (mode !== 'auto') return mode;
  return model?.chat_template === false ? 'write' : 'chat';
}

/** Why a text is no JSON Schema, or null. What the server cannot enforce it says itself. */
export function schemaProblem(text: string): string | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (e) {
    return e instanceof Error ? e.message : 'not JSON';
  }
  if (typeof value === 'boolean') return null;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return 'a schema is an object, as in {"type": "object"}';
  }
  return null;
}

export interface Outgoing {
  path: string;
  body: Record<string, unknown>;
}

export function buildRequest(
  c: Conversation, answerId: string, s: Settings, model: ModelEntry | undefined,
): Outgoing {
  const mode = effectiveMode(s.mode, model);
  const body: Record<string, unknown> = {
    model: model?.id ?? (s.model || 'default'),
    stream: true,
    stream_options: { include_usage: true },
    timings: true,
    ...samplingFields(s.sampling),
  };
  if (s.schemaOn && schemaProblem(s.schema) === null) {
    body.response_format = {
      type: 'json_schema',
      json_schema: { name: 'answer', strict: true, schema: JSON.parse(s.schema) },
    };
  }
  if (mode === 'write') {
    const prompt = promptText(c, answerId);
    body.prompt = prompt;
    body.max_tokens ??= writeOnTokens;
    if (s.probabilities) body.logprobs = topTokens;
    return { path: '/v1/completions', body };
  }
  body.messages = chatMessages(c, answerId);
  if (s.probabilities) {
    body.logprobs = true;
    body.top_logprobs = topTokens;
  }
  return { path: '/v1/chat/completions', body };
}
