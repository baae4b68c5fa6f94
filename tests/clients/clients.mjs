// End to end: each published client, unchanged, against the server named by the argument.
import assert from 'node:assert/strict';
import Anthropic from '@anthropic-ai/sdk';
import {Ollama} from 'ollama';
import OpenAI from 'openai';

const url = process.argv[2];
const openai = new OpenAI({baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0});
const anthropic = new Anthropic({baseURL: url, apiKey: 'none', maxRetries: 0});
const ollama = new Ollama({host: url});
const messages = [{role: 'user', content: 'Once upon a time'}];
const model = 'default';

const weather = {
  type: 'function',
  function: {
    name: 'weather', description: 'The weather in a city',
    parameters: {
      type: 'object',
      properties: {city: {enum: ['Rome', 'Oslo']}, exact: {type: 'boolean'}},
      required: ['city', 'exact'], additionalProperties: false,
    },
  },
};
function checkCall(name, input) {
  assert.equal(name, 'weather');
  assert.ok(['Rome', 'Oslo'].includes(input.city));
  assert.equal(typeof input.exact, 'boolean');
}

const tests = {
  async 'openai: models'() {
    const list = await openai.models.list();
    assert.equal(list.data.length, 1);
    assert.equal((await openai.models.retrieve('default')).object, 'model');
  },
  async 'openai: chat, whole and streamed'() {
    const request = {model, messages, max_tokens: 24, seed: 1};
    const whole = await openai.chat.completions.create(request);
    assert.ok(whole.choices[0].message.content.length > 0);
    assert.equal(whole.usage.total_tokens,
                 whole.usage.prompt_tokens + whole.usage.completion_tokens);
    const stream = await openai.chat.completions.create(
        {...request, stream: true, stream_options: {include_usage: true}});
    let text = '', usage;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? '';
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
  },
  async 'openai: the stream helper'() {
    const runner = openai.chat.completions.stream({model, messages, max_tokens: 16, seed: 2});
    const final = await runner.finalChatCompletion();
    assert.equal(final.choices[0].message.role, 'assistant');
  },
  async 'openai: logprobs'() {
    const answer = await openai.chat.completions.create(
        {model, messages, max_tokens: 4, logprobs: true, top_logprobs: 2});
    assert.equal(answer.choices[0].logprobs.content.length, answer.usage.completion_tokens);
    assert.equal(answer.choices[0].logprobs.content[0].top_logprobs.length, 2);
  },
  async 'openai: structured output'() {
    const answer = await openai.chat.completions.create({
      model, messages, max_tokens: 100, seed: 3,
      response_format: {
        type: 'json_schema',
        json_schema: {
          name: 'animal', strict: true,
          schema: {
            type: 'object',
            properties: {kind: {enum: ['cat', 'dog']}, old: {type: 'boolean'}},
            required: ['kind', 'old'], additionalProperties: false,
          },
        },
      },
    });
    if (answer.choices[0].finish_reason === 'length') return;
    const value = JSON.parse(answer.choices[0].message.content);
    assert.ok(['cat', 'dog'].includes(value.kind));
    assert.equal(typeof value.old, 'boolean');
  },
  async 'openai: a required tool, whole and streamed'() {
    const request = {
      model, messages, max_tokens: 300, seed: 8, tools: [weather],
      tool_choice: {type: 'function', function: {name: 'weather'}},
      parallel_tool_calls: false,
    };
    const whole = await openai.chat.completions.create(request);
    const choice = whole.choices[0];
    assert.equal(choice.finish_reason, 'tool_calls');
    checkCall(choice.message.tool_calls[0].function.name,
              JSON.parse(choice.message.tool_calls[0].function.arguments));
    const runner = openai.chat.completions.stream({...request, stream: true});
    const final = await runner.finalChatCompletion();
    assert.deepEqual(final.choices[0].message.tool_calls[0].function.arguments,
                     choice.message.tool_calls[0].function.arguments);
    // The result goes back in the form that the client makes of it.
    const next = await openai.chat.completions.create({
      model, max_tokens: 8,
      messages: [...messages, choice.message,
                 {role: 'tool', tool_call_id: choice.message.tool_calls[0].id, content: 'sunny'}],
      tools: [weather], tool_choice: 'none',
    });
    assert.equal(next.choices[0].message.tool_calls, undefined);
  },
  async 'openai: a tool in responses'() {
    const answer = await openai.responses.create({
      model, input: 'Once upon a time', max_output_tokens: 300, seed: 9, tool_choice: 'required',
      tools: [{type: 'function', strict: true, ...weather.function}],
    });
    const call = answer.output.find((item) => item.type === 'function_call');
    checkCall(call.name, JSON.parse(call.arguments));
  },
  async 'openai: embeddings'() {
    const answer =
        await openai.embeddings.create({model, input: ['a small dog', 'a little dog', '12 + 7']});
    const [a, b, c] = answer.data.map((item) => item.embedding);
    const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
    assert.ok(Math.abs(dot(a, a) - 1) < 1e-4);
    assert.ok(dot(a, b) > dot(a, c));
  },
  async 'openai: completions with n'() {
    const answer =
        await openai.completions.create({model, prompt: 'Once', max_tokens: 8, n: 2, seed: 4});
    assert.equal(answer.choices.length, 2);
  },
  async 'openai: responses, whole and streamed'() {
    const request = {model, input: 'Once upon a time', max_output_tokens: 16, seed: 5};
    const whole = await openai.responses.create(request);
    assert.ok(whole.output_text.length > 0);
    const stream = await openai.responses.create({...request, stream: true});
    let text = '';
    for await (const event of stream) {
      if (event.type === 'response.output_text.delta') text += event.delta;
    }
    assert.equal(text, whole.output_text);
  },
  async 'openai: errors become its classes'() {
    await assert.rejects(openai.chat.completions.create({model: 'none', messages}),
                         OpenAI.NotFoundError);
    await assert.rejects(openai.chat.completions.create({model, messages, temperature: 9}),
                         (e) => e instanceof OpenAI.BadRequestError && e.param === 'temperature');
  },
  async 'openai: aborting a stream'() {
    const stream = await openai.chat.completions.create(
        {model, messages, stream: true, max_tokens: 200, ignore_eos: true});
    for await (const _ of stream) {
      stream.controller.abort();
      break;
    }
    for (let i = 0; i < 100; ++i) {
      const stats = await (await fetch(`${url}/v1/stats`)).json();
      if (stats.models[0].requests === 0) return;
      await new Promise((r) => setTimeout(r, 50));
    }
    assert.fail('the request went on');
  },
  async 'anthropic: messages, whole and streamed'() {
    const request = {model, messages, max_tokens: 16, seed: 6};
    const whole = await anthropic.messages.create(request);
    assert.equal(whole.content[0].type, 'text');
    const streamed = await anthropic.messages.stream(request).finalMessage();
    assert.equal(streamed.content[0].text, whole.content[0].text);
    const count = await anthropic.messages.countTokens({model, messages});
    assert.ok(count.input_tokens > 0);
    await assert.rejects(anthropic.messages.create({...request, model: 'none'}),
                         Anthropic.NotFoundError);
  },
  async 'anthropic: a tool, whole and streamed'() {
    const request = {
      model, messages, max_tokens: 300, seed: 10,
      tool_choice: {type: 'tool', name: 'weather', disable_parallel_tool_use: true},
      tools: [{name: 'weather', input_schema: weather.function.parameters}],
    };
    const whole = await anthropic.messages.create(request);
    assert.equal(whole.stop_reason, 'tool_use');
    checkCall(whole.content[0].name, whole.content[0].input);
    const streamed = await anthropic.messages.stream(request).finalMessage();
    assert.deepEqual(streamed.content[0].input, whole.content[0].input);
    await anthropic.messages.create({
      model, max_tokens: 8,
      messages: [...messages, {role: 'assistant', content: whole.content},
                 {role: 'user', content: [{type: 'tool_result', tool_use_id: whole.content[0].id,
                                           content: 'sunny'}]}],
      tools: request.tools, tool_choice: {type: 'none'},
    });
  },
  async 'ollama: structured output and embeddings'() {
    const format = {type: 'object', properties: {kind: {enum: ['cat', 'dog']}},
                    required: ['kind'], additionalProperties: false};
    const answer = await ollama.chat({model, messages, format, options: {seed: 1}});
    assert.ok(['cat', 'dog'].includes(JSON.parse(answer.message.content).kind));
    const embedded = await ollama.embed({model, input: ['one', 'two']});
    assert.equal(embedded.embeddings.length, 2);
    assert.ok((await ollama.embeddings({model, prompt: 'one'})).embedding.length > 0);
  },
  async 'ollama: chat, generate, list, show'() {
    const options = {seed: 7, num_predict: 16};
    const whole = await ollama.chat({model, messages, options});
    assert.ok(whole.message.content.length > 0);
    let text = '';
    for await (const part of await ollama.generate(
                   {model, prompt: 'Once upon a time', options, stream: true})) {
      text += part.response;
    }
    assert.ok(text.length > 0);
    const list = await ollama.list();
    assert.equal(list.models.length, 1);
    assert.ok((await ollama.show({model: list.models[0].name})).model_info);
    await assert.rejects(ollama.chat({model: 'none', messages}), /not found/);
  },
};

let failed = 0;
for (const [name, test] of Object.entries(tests)) {
  try {
    await test();
    console.log(`ok      ${name}`);
  } catch (error) {
    ++failed;
    console.log(`FAILED  ${name}: ${error.stack}`);
  }
}
process.exit(failed ? 1 : 0);
