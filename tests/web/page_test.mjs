// The web page in a real Chromium against a real server.
// usage: node page_test.mjs INKSTONE       INKSTONE_WEB_SHOTS=DIR keeps pictures.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createKey, runSteps, startBrowser, startServer, step, until } from './harness.mjs';

const inkstone = process.argv[2];
const shots = process.env.INKSTONE_WEB_SHOTS;
if (shots) mkdirSync(shots, { recursive: true });

const server = await startServer(inkstone, ['--sequences', '3']);
const browser = await startBrowser();
const page = browser.context.pages()[0];
page.setDefaultTimeout(60000);

const shot = async (name) => {
  if (shots) await page.screenshot({ path: join(shots, `${name}.png`) });
};
const composer = page.getByLabel(/Your (words|message)/);
const button = (name) => page.getByRole('button', { name, exact: true });
const answers = page.locator('.message.assistant');
const answerText = async (n = 0) => (await answers.nth(n).locator('.text').innerText()).trim();
const idle = () => until('the end of the answer', async () => !(await button('Stop').isVisible()));
const engine = async () => (await (await fetch(`${server.url}/v1/engine`)).json()).models[0];
const openSettings = async () => {
  if (!(await page.locator('#settings').isVisible())) await button('Settings').click();
};
const closeSettings = async () => {
  if (await page.locator('#settings').isVisible()) await button('Close settings').click();
};
const setTextOf = async (on, label, value) => {
  const box = on.getByLabel(label, { exact: true });
  await box.fill(value);
  await box.press('Tab');
};
const setText = (label, value) => setTextOf(page, label, value);
const noSideways = async (where) => {
  const [inner, outer] = await page.evaluate(() => [
    Math.max(document.documentElement.scrollWidth, document.body.scrollWidth,
      document.querySelector('main:not([hidden])').scrollWidth), innerWidth]);
  assert.ok(inner <= outer, `${where}: ${inner} pixels wide in a window of ${outer}`);
};

step('the file: type, encoding, policy, validator', async () => {
  const response = await fetch(`${server.url}/`, { headers: { 'Accept-Encoding': 'gzip' } });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('content-type'), 'text/html; charset=utf-8');
  const policy = response.headers.get('content-security-policy');
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe|https?:|\*/);
  const etag = response.headers.get('etag');
  const again = await fetch(`${server.url}/`, { headers: { 'If-None-Match': etag } });
  assert.equal(again.status, 304);
});

step('a text is begun and written on, as it comes', async () => {
  await page.goto(`${server.url}/`);
  await page.getByText('Begin a text.', { exact: true }).waitFor();
  await shot('empty');
  await composer.fill('Once upon a time');
  await composer.press('Enter');
  const lengths = new Set();
  await until('growing text', async () => {
    lengths.add((await answers.first().locator('.text').innerText().catch(() => '')).length);
    return lengths.size >= 4;
  });
  await shot('streaming');
  await idle();
  const text = await answerText();
  assert.ok(text.length > Math.min(...lengths), 'the text grew');
  assert.match(await answers.first().locator('.timing').innerText(), /\d+ tokens in .* perplexity/s);
});

step('probabilities under the pointer and by the arrow keys', async () => {
  await answers.first().locator('.tok').nth(4).hover();
  const card = page.locator('.token-card');
  await card.waitFor();
  const rows = await card.locator('.token-row').allInnerTexts();
  assert.equal(rows.length, 5);
  const shares = rows.map((row) => Number(/([\d.]+) %/.exec(row)[1]));
  assert.ok(shares.every((s, i) => i === 0 || s <= shares[i - 1]), `sorted: ${shares}`);
  assert.ok(shares.reduce((a, b) => a + b) <= 100.5, `at most everything: ${shares}`);
  await shot('probabilities');
  await page.mouse.move(5, 400);
  await card.waitFor({ state: 'detached' });
  await answers.first().locator('.text').focus();
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('ArrowRight');
  await card.waitFor();
  assert.equal(await page.locator('.tok.here').first().getAttribute('data-t'), '1');
  // The tokens are the text, each character once.
  const parts = await answers.first().locator('.tok').allInnerTexts();
  assert.ok(parts.length > 20);
});

step('Esc stops, and the engine is free again', async () => {
  await openSettings();
  await setText('Max tokens', '400');
  await closeSettings();
  await composer.fill('Then the king spoke for a very long time');
  await composer.press('Enter');
  await until('some text', async () => (await answers.count()) === 2 && (await answerText(1)).length > 10);
  await page.keyboard.press('Escape');
  await idle();
  await answers.nth(1).getByText('stopped', { exact: true }).waitFor();
  await until('an idle engine', async () => (await engine()).in_flight.length === 0);
  assert.ok((await engine()).ended.some((r) => r.outcome === 'cancelled'), 'cancelled there too');
});

step('edit and answer again; undo brings the rest back', async () => {
  await openSettings();
  await setText('Max tokens', '24');
  await closeSettings();
  const first = page.locator('.message.user').first();
  await first.hover();
  await first.getByRole('button', { name: 'Edit' }).click();
  const box = page.getByLabel('Edit the message');
  await box.fill('There was once a fisherman');
  await shot('edit');
  await box.press('Control+Enter');
  await idle();
  assert.equal(await answers.count(), 1);
  assert.match(await first.innerText(), /fisherman/);
  await button('Undo').click();
  assert.equal(await answers.count(), 2);
  assert.match(await first.innerText(), /Once upon a time/);
});

step('retry keeps the earlier attempt', async () => {
  const last = answers.nth(1);
  const before = await answerText(1);
  await last.hover();
  await last.getByRole('button', { name: 'Retry' }).click();
  await idle();
  await last.getByText('2/2').waitFor();
  assert.notEqual(await answerText(1), before);
  await last.getByRole('button', { name: 'Earlier attempt' }).click();
  assert.equal(await answerText(1), before);
  // Of a user's message as well.
  const question = page.locator('.message.user').nth(1);
  await question.hover();
  await question.getByRole('button', { name: 'Retry' }).click();
  await idle();
  await last.getByText('3/3').waitFor();
});

/** How many attempts an answer has. A short answer may be over before its Stop button is seen. */
const attempts = async (answer) => Number(/\d+\/(\d+)/.exec(await answer.innerText())?.[1] ?? 1);

step('the chain that is shown is the chain that the server used', async () => {
  await openSettings();
  await setText('repetition, number', '1.1');
  await setText('top k, number', '40');
  await setText('top p, number', '0.9');
  for (const preset of ['default', 'llamacpp', 'hf']) {
    await page.locator('#preset').selectOption(preset);
    const shown = await page.locator('#effective-chain').innerText();
    const before = await attempts(answers.nth(1));
    await answers.nth(1).hover();
    await answers.nth(1).getByRole('button', { name: 'Retry' }).click();
    await until('a new attempt', async () => await attempts(answers.nth(1)) > before);
    await idle();
    const title = await answers.nth(1).locator('.timing').getAttribute('title');
    assert.equal(/chain (.*)/.exec(title)[1], shown);
    assert.ok(shown.includes('top_k'));
  }
  await shot('settings');
  await button('Reset').click();
  await setText('temperature, number', '0');
  assert.equal(await page.locator('#effective-chain').innerText(), 'greedy');
  await button('Reset').click();
});

step('JSON Schema: enforced, refused where it cannot be, named where it is none', async () => {
  await openSettings();
  await page.locator('#settings section', { hasText: 'JSON Schema' })
    .getByRole('button', { name: 'Example' }).click();
  assert.equal(await page.locator('#schema').getAttribute('aria-invalid'), 'false');
  await setText('JSON Schema', JSON.stringify({
    type: 'object',
    properties: { kind: { enum: ['ink', 'stone'] }, age: { enum: [1, 2, 3] } },
    required: ['kind', 'age'],
    additionalProperties: false,
  }));
  await setText('frequency, number', '2');
  await page.getByLabel('Every answer satisfies this schema').check();
  await setText('Max tokens', '300');
  await button('New page').click();
  await composer.fill('The hero of the story: ');
  await composer.press('Enter');
  await until('an answer', async () => (await answers.first().locator('.timing').count()) > 0);
  await idle();
  // A model of stories likes to fill its tokens with white space, which JSON allows: the penalty
  // is against that. Where it does, the page says so.
  for (let i = 0; i < 8 && (await answers.first().getByText('not complete').isVisible()); ++i) {
    const before = await attempts(answers.first());
    await answers.first().hover();
    await answers.first().getByRole('button', { name: 'Retry' }).click();
    await until('a new attempt', async () => await attempts(answers.first()) > before);
    await idle();
  }
  const value = JSON.parse(await answerText());
  assert.deepEqual(Object.keys(value).sort(), ['age', 'kind']);
  assert.ok([1, 2, 3].includes(value.age) && ['ink', 'stone'].includes(value.kind));
  await setText('frequency, number', '0');
  await shot('schema');
  await setText('JSON Schema', '{"$ref": "https://example.com/schema.json"}');
  await answers.first().hover();
  await answers.first().getByRole('button', { name: 'Retry' }).click();
  await idle();
  assert.match(await page.getByRole('alert').innerText(), /example\.com/);
  browser.complaints.splice(0, browser.complaints.length,
    ...browser.complaints.filter((c) => !/status of 400/.test(c)));
  await setText('JSON Schema', '{"type": ');
  assert.equal(await page.locator('#schema').getAttribute('aria-invalid'), 'true');
  await page.getByLabel('Every answer satisfies this schema').uncheck();
  await setText('JSON Schema', '');
  await closeSettings();
});

step('conversations survive a reload and can be deleted', async () => {
  await page.waitForTimeout(700);
  await page.reload();
  await page.locator('.message').first().waitFor();
  const titles = page.locator('.list .title');
  assert.equal(await titles.count(), 2);
  await titles.nth(1).click();
  assert.match(await page.locator('.bar h1').innerText(), /Once upon a time/);
  assert.ok((await answers.first().locator('.tok').count()) > 0, 'with their probabilities');
});

step('a conversation: Markdown is drawn, nothing in it runs', async () => {
  const chunks = [
    '# Title\n\n<img src=x onerror="window.harm=1"><script>window.harm=1</script>\n\n',
    '[bad](javascript:window.harm=1) and [good](https://example.com/) and **bold**',
    '\n\n![pic](https://example.com/a.png)\n\n```js\nlet x = "<b>";\n```\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n',
  ];
  const body = chunks.map((content) => `data: ${JSON.stringify({
    choices: [{ index: 0, delta: { content }, logprobs: null, finish_reason: null }],
  })}\n\n`).join('') + 'data: [DONE]\n\n';
  let sent;
  await page.route('**/v1/chat/completions', (route) => {
    sent = route.request().postDataJSON();
    return route.fulfill({ status: 200, contentType: 'text/event-stream', body });
  });
  await button('New page').click();
  await openSettings();
  await page.locator('#mode').selectOption('chat');
  await page.getByLabel('System prompt').fill('Be brief.');
  await closeSettings();
  await composer.fill('Hello');
  await composer.press('Shift+Enter');
  await composer.pressSequentially('there');
  await composer.press('Enter');
  await answers.first().locator('table').waitFor();
  await idle();
  assert.deepEqual(sent.messages, [
    { role: 'system', content: 'Be brief.' }, { role: 'user', content: 'Hello\nthere' },
  ]);
  assert.equal(sent.logprobs, true);
  assert.equal(await answers.first().locator('img, script').count(), 0);
  assert.equal(await page.evaluate(() => window.harm), undefined);
  const links = await answers.first().locator('a').evaluateAll((all) => all.map((a) => a.href));
  assert.deepEqual([...new Set(links)].sort(), ['https://example.com/', 'https://example.com/a.png']);
  assert.match(await answers.first().innerText(), /<img src=x/);
  await shot('markdown');
  await page.unroute('**/v1/chat/completions');
  // And once for real: this model says that it has no template.
  await answers.first().hover();
  await answers.first().getByRole('button', { name: 'Retry' }).click();
  await answers.first().getByText('2/2').waitFor();
  await until('text', async () => (await answerText()).length > 0);
  await page.keyboard.press('Escape');
  await idle();
  assert.match(await answers.first().innerText(), /template/);
});

step('the engine room shows live numbers', async () => {
  await page.getByRole('link', { name: 'Engine room' }).click();
  await page.locator('.block-map canvas').waitFor();
  const prompt = 'The fox went to the river every day to look at the fish. '.repeat(5);
  const abort = new AbortController();
  const ask = () => fetch(`${server.url}/v1/completions`, {
    method: 'POST',
    signal: abort.signal,
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ prompt, max_tokens: 300, ignore_eos: true, n: 1 }),
  }).then((r) => r.text()).catch(() => '');
  await ask();  // leaves its prompt in the cache for the next to share
  const load = (async () => {
    while (!abort.signal.aborted) await Promise.all(Array.from({ length: 5 }, ask));
  })();
  try {
    const number = async (id) => Number((await page.locator(id).innerText()).replace(/,/g, ''));
    await until('a decode rate', async () => (await number('#decode-rate')) > 1);
    await until('requests in flight', async () =>
      (await page.locator('.timeline li:not(.ended)').count()) >= 2);
    await until('a queue', async () =>
      (await page.locator('.timeline .state').allInnerTexts()).includes('queued'));
    await until('shared blocks', async () =>
      Number(await page.locator('.block-map .key', { hasText: 'shared' }).locator('b').innerText()) > 0);
    await page.waitForTimeout(3000);
    const share = await page.locator('.ledger .total').innerText();
    assert.match(share, /% of resident/);
    const bars = await page.locator('.timeline .track .decode').count();
    assert.ok(bars > 0, 'phases are drawn');
    const paths = await page.locator('.chart path.area').evaluateAll((all) =>
      all.filter((p) => p.getAttribute('d').length > 20).length);
    assert.ok(paths >= 6, `charts are drawn: ${paths}`);
    await shot('engine');
    if (shots) {
      await page.setViewportSize({ width: 1280, height: 1560 });
      await page.waitForTimeout(700);
      await shot('engine-whole');
      await page.emulateMedia({ colorScheme: 'dark' });
      await page.waitForTimeout(700);
      await shot('engine-dark');
      await page.emulateMedia({ colorScheme: 'light' });
      await page.setViewportSize({ width: 360, height: 1900 });
      await page.waitForTimeout(700);
      await shot('engine-phone');
      await page.setViewportSize({ width: 1280, height: 800 });
    }
  } finally {
    abort.abort();
    await load;
  }
  await until('all ended', async () => (await page.locator('.timeline li:not(.ended)').count()) === 0);
});

step('dark and light: by the system, and by choice', async () => {
  await page.getByRole('link', { name: 'Writing' }).click();
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await paper();
  await page.emulateMedia({ colorScheme: 'dark' });
  const dark = await paper();
  assert.notEqual(light, dark);
  await page.locator('.list .title').last().click();
  await shot('dark');
  await page.getByRole('button', { name: /Colours: auto/ }).click();
  await until('light by choice', async () => (await paper()) === light);
  await page.getByRole('button', { name: /Colours: light/ }).click();
  await page.emulateMedia({ colorScheme: 'light' });
  await until('dark by choice', async () => (await paper()) === dark);
  await page.getByRole('button', { name: /Colours: dark/ }).click();
  await until('light again', async () => (await paper()) === light);
  // Text is readable in both: WCAG's ratio for small text.
  for (const scheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: scheme });
    const ratios = await page.evaluate(() => {
      const luminance = (color) => {
        const [r, g, b] = color.match(/[\d.]+/g).slice(0, 3).map((v) => {
          const c = v / 255;
          return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const paper = luminance(getComputedStyle(document.body).backgroundColor);
      return ['.hint', '.who', '.text', '.model-name', '.timing', '.assistant .who'].map((selector) => {
        const ink = luminance(getComputedStyle(document.querySelector(selector)).color);
        const [a, b] = [Math.max(ink, paper), Math.min(ink, paper)];
        return [selector, (a + 0.05) / (b + 0.05)];
      });
    });
    for (const [selector, ratio] of ratios) {
      assert.ok(ratio >= 4.5, `${scheme} ${selector}: contrast ${ratio.toFixed(2)}`);
    }
  }
  await page.emulateMedia({ colorScheme: 'light' });
});

step('the keyboard reaches everything, visibly, by name', async () => {
  await page.reload();
  await page.locator('.message').first().waitFor();
  const seen = [];
  for (let i = 0; i < 40; ++i) {
    await page.keyboard.press('Tab');
    const at = await page.evaluate(() => {
      const e = document.activeElement;
      const style = getComputedStyle(e);
      const box = e.closest('.composer-box') ?? e;
      return {
        tag: e.tagName,
        name: e.getAttribute('aria-label') || e.labels?.[0]?.innerText || e.innerText || e.placeholder,
        ring: style.outlineStyle !== 'none' || getComputedStyle(box).borderStyle !== 'none',
      };
    });
    if (at.tag === 'BODY') break;
    assert.ok(at.name?.trim(), `a ${at.tag} without a name`);
    assert.ok(at.ring, `no focus ring on ${at.tag} ${at.name}`);
    seen.push(at.name.trim());
  }
  assert.equal(seen[0], 'Skip to the content');
  for (const name of ['Inkstone', 'Engine room', 'New page', 'Settings', 'Copy', 'Edit', 'Retry']) {
    assert.ok(seen.some((s) => s.includes(name)), `${name} among ${seen}`);
  }
  const unnamed = await page.evaluate(() =>
    [...document.querySelectorAll('button, a, input, select, textarea')].filter((e) =>
      !(e.getAttribute('aria-label') || e.labels?.length || e.innerText.trim())).length);
  assert.equal(unnamed, 0);
  await page.locator('body').click({ position: { x: 640, y: 60 } });
  await page.keyboard.press('/');
  assert.equal(await page.evaluate(() => document.activeElement.tagName), 'TEXTAREA');
});

step('a telephone: 360 pixels, nothing to scroll sideways', async () => {
  await page.setViewportSize({ width: 360, height: 740 });
  await page.waitForTimeout(300);
  await noSideways('writing');
  await shot('phone');
  await button('Conversations').click();
  await page.locator('.list.open').waitFor();
  await page.waitForTimeout(250);
  await shot('phone-list');
  await page.keyboard.press('Escape');
  await openSettings();
  await noSideways('settings');
  await page.waitForTimeout(200);
  await shot('phone-settings');
  assert.ok(await page.evaluate(() => document.activeElement.closest('#settings') !== null));
  await page.keyboard.press('Escape');
  await page.locator('#settings').waitFor({ state: 'detached' });
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Settings');
  await page.getByRole('link', { name: 'Engine room' }).click();
  await page.locator('.block-map canvas').waitFor();
  await noSideways('engine room');
  await page.setViewportSize({ width: 1280, height: 800 });
});

step('with keys: the page loads, asks for one, and works with it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ink-keys-'));
  const db = join(folder, 'keys.db');
  const key = createKey(inkstone, db);
  // With a chat template, so that this one is a partner in conversation without being told.
  const template = join(folder, 'chat.jinja');
  writeFileSync(template, '{% for m in messages %}{{ m.content }}\n{% endfor %}');
  const locked = await startServer(inkstone, ['--db', db, '--chat-template', template]);
  const other = await browser.context.newPage();
  try {
    await other.goto(`${locked.url}/`);
    await other.getByText('asks for an API key').waitFor();
    await other.getByLabel('API key', { exact: true }).fill(key);
    await other.getByLabel('API key', { exact: true }).press('Tab');
    await until('the model', async () => (await other.locator('#model').inputValue()) !== '');
    await other.getByLabel('System prompt').fill('Stories');
    await setTextOf(other, 'Max tokens', '60');
    // Greedy: the text has headings and a rule, which are drawn without their signs.
    await setTextOf(other, 'temperature, number', '0');
    await other.getByLabel('Your message').fill('Once upon a time');
    await other.getByLabel('Your message').press('Enter');
    await other.locator('.timing').waitFor();
    // Markdown's own signs and white space are not drawn; every character that is drawn belongs to
    // a token.
    const answer = other.locator('.message.assistant');
    const solid = (text) => text.replace(/\s/g, '');
    const drawn = solid(await answer.locator('.text').innerText());
    const ofTokens = solid((await answer.locator('.tok').allInnerTexts()).join(''));
    assert.ok(drawn.length > 40, `a text of 60 tokens, drawn as "${drawn}"`);
    assert.equal(ofTokens, drawn, 'what tokens draw, and all that is drawn');
    assert.equal(await other.evaluate(() => localStorage.getItem('inkstone.key')), null);
    await other.goto(`${locked.url}/#/engine`);
    await other.locator('.block-map canvas').waitFor();
  } finally {
    await other.close();
    await locked.stop();
    rmSync(folder, { recursive: true, force: true });
  }
  const own = browser.complaints.filter((c) => !/status of 401/.test(c));
  browser.complaints.splice(0, browser.complaints.length, ...own);
  browser.requests.splice(0, browser.requests.length,
    ...browser.requests.filter((url) => !url.startsWith(locked.url)));
});

step('no complaint, no request to anywhere else', async () => {
  assert.deepEqual(browser.complaints, []);
  const foreign = browser.requests.filter(
    (url) => !url.startsWith(server.url) && !url.startsWith('data:'));
  assert.deepEqual(foreign, []);
});

try {
  await runSteps();
  console.log('the page: all steps passed');
} catch (error) {
  await shot('failure').catch(() => {});
  console.error(error);
  console.error('console of the page:', browser.complaints);
  process.exitCode = 1;
} finally {
  await browser.stop();
  await server.stop();
}
