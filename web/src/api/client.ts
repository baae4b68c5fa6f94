// The server's routes as the page uses them.
import type { TokenLog } from '../chat/tokens';
import type { Timings } from '../chat/state';
import { SseParser } from './sse';

export interface ModelEntry {
  id: string;
  max_model_len: number;
  architecture?: string;
  chat_template?: boolean;
}

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

function headers(key: string): Record<string, string> {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** The sentence in an error answer, whatever its form. */
export function errorText(status: number, body: string): string {
  try {
    const value = JSON.parse(body);
    const message = value?.error?.message ?? value?.error ?? value?.message;
    if (typeof message === 'string') return message;
  } catch {
    // Not JSON: a proxy's page perhaps.
  }
  return `the server answered ${status}`;
}

export async function get(path: string, key: string, signal?: AbortSignal): Promise<Response> {
  const response = await fetch(path, { headers: headers(key), signal, cache: 'no-store' });
  if (!response.ok) {
    throw new ApiError(response.status, errorText(response.status, await response.text()));
  }
  return response;
}

export async function listModels(key: string): Promise<ModelEntry[]> {
  const body = await (await get('/v1/models', key)).json();
  return Array.isArray(body?.data) ? body.data : [];
}

/** One part of a streamed answer. */
export interface Part {
  text: string;
  reasoning: string;
  tokens: TokenLog[];
  finish?: string;
  timings?: Timings;
  warnings?: string[];
}

type Entry = { token: string; logprob: number; bytes?: number[]; top_logprobs?: Entry[] };

function chatTokens(logprobs: { content?: Entry[] } | null | undefined): TokenLog[] {
  return (logprobs?.content ?? []).map((e) => ({
    text: e.token,
    bytes: e.bytes,
    logprob: e.logprob,
    top: (e.top_logprobs ?? []).map((t): [string, number] => [t.token, t.logprob]),
  }));
}

// The older form of the completions route: parallel lists.
function completionTokens(
  l: { tokens?: string[]; token_logprobs?: number[]; top_logprobs?: Record<string, number>[] } | null,
): TokenLog[] {
  return (l?.tokens ?? []).map((text, i) => ({
    text,
    logprob: l?.token_logprobs?.[i] ?? 0,
    top: Object.entries(l?.top_logprobs?.[i] ?? {}).sort((a, b) => b[1] - a[1]),
  }));
}

/** Reads one `data:` object of either route; throws what the server reports as an error. */
export function readPart(value: any): Part {
  if (value?.error) throw new ApiError(500, errorText(500, JSON.stringify(value)));
  const choice = value?.choices?.[0];
  const part: Part = { text: '', reasoning: '', tokens: [] };
  if (choice) {
    if (choice.delta) {
      part.text = choice.delta.content ?? '';
      part.reasoning = choice.delta.reasoning_content ?? '';
      part.tokens = chatTokens(choice.logprobs);
    } else {
      part.text = choice.text ?? '';
      part.tokens = completionTokens(choice.logprobs ?? null);
    }
    if (choice.finish_reason) part.finish = choice.finish_reason;
  }
  if (Array.isArray(value?.warnings)) part.warnings = value.warnings;
  const t = value?.timings;
  if (t) {
    part.timings = {
      queue: t.queue_s,
      prefill: t.prefill_s,
      decode: t.decode_s,
      prompt: t.prompt_tokens,
      cached: t.cached_tokens,
      completion: t.completion_tokens,
      seed: t.seed,
      chain: Array.isArray(t.sampler_chain)
        ? t.sampler_chain.map((s: { stage: string }) => s.stage)
        : undefined,
    };
  }
  return part;
}

/** Posts and calls `onPart` for each piece until the stream ends; throws ApiError or AbortError. */
export async function stream(
  path: string, body: unknown, key: string, signal: AbortSignal, onPart: (part: Part) => void,
): Promise<void> {
  const response = await fetch(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers(key) },
    body: JSON.stringify(body),
    signal,
  });
  if (!response.ok || !response.body) {
    throw new ApiError(response.status, errorText(response.status, await response.text()));
  }
  const parser = new SseParser();
  const decoder = new TextDecoder('utf-8');
  const reader = response.body.getReader();
  let ended = false;
  for (;;) {
    const { done, value } = await reader.read();
    const events = parser.push(done ? decoder.decode() : decoder.decode(value, { stream: true }));
    for (const event of events) {
      if (event.data === '[DONE]') ended = true;
      else onPart(readPart(JSON.parse(event.data)));
    }
    if (done) break;
  }
  if (!ended) throw new ApiError(0, 'the connection ended before the answer did');
}
