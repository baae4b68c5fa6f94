// A server, a browser, and what must never happen in it.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

export const browserPath = process.env.INKSTONE_CHROMIUM || '/usr/bin/chromium';

/**
 * Starts `inkstone serve` on a free port. With the plain kernels: the story model writes 2,000 tokens
 * a second with the fast ones, and an answer would be over before the browser drew its beginning.
 */
export async function startServer(inkstone, args = []) {
  const child = spawn(inkstone, ['serve', '--port', '0', '--quiet', ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, INKSTONE_ISA: 'reference' },
  });
  const url = await new Promise((resolve, reject) => {
    let out = '';
    child.stdout.on('data', (data) => {
      out += data;
      const found = /listening on (\S+)/.exec(out);
      if (found) resolve(found[1]);
    });
    child.on('exit', (code) => reject(new Error(`inkstone serve ended with ${code}`)));
  });
  return {
    url,
    async stop() {
      const ended = new Promise((resolve) => child.on('exit', resolve));
      child.kill('SIGTERM');
      await ended;
    },
  };
}

export function createKey(inkstone, db) {
  const out = execFileSync(inkstone, ['keys', 'create', '--db', db, '--name', 'page'], {
    encoding: 'utf8',
  });
  return out.match(/[\w-]{24,}/g).sort((a, b) => b.length - a.length)[0];
}

/** A fresh browser whose pages report every complaint and every request. */
export async function startBrowser() {
  const profile = mkdtempSync(join(tmpdir(), 'ink-web-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: browserPath,
    headless: true,
    viewport: { width: 1280, height: 800 },
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ],
  });
  const complaints = [];
  const requests = [];
  const watch = (page) => {
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') {
        complaints.push(message.text());
      }
    });
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('request', (request) => requests.push(request.url()));
  };
  context.on('page', watch);
  context.pages().forEach(watch);
  return {
    context,
    complaints,
    requests,
    async stop() {
      await context.close();
      rmSync(profile, { recursive: true, force: true });
    },
  };
}

/** Asks until `probe` gives something true. */
export async function until(what, probe, ms = 60000) {
  const end = Date.now() + ms;
  for (;;) {
    const value = await probe();
    if (value) return value;
    assert.ok(Date.now() < end, `waited ${ms} ms for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
}

const steps = [];
export const step = (name, run) => steps.push([name, run]);
export async function runSteps() {
  for (const [name, run] of steps) {
    const begin = Date.now();
    await run();
    console.log(`ok   ${name} (${Date.now() - begin} ms)`);
  }
}
