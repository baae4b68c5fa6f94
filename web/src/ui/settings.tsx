// The drawer of settings. The sampler's chain is its own control panel: each stage stands where it
// acts, and stages that do nothing are pale.
import type { ComponentChildren } from 'preact';
import type { ModelEntry } from '../api/client';
import {
  defaultSampling, effectiveChain, isActive, isGreedy, presetStages, type Preset, type Sampling,
  type Stage,
} from '../chat/sampling';
import { effectiveMode, schemaProblem, type Mode, type Settings } from '../chat/request';
import { CloseIcon } from './icons';

interface Props {
  settings: Settings;
  onSettings: (change: (old: Settings) => Settings) => void;
  system: string;
  onSystem: (text: string) => void;
  models: ModelEntry[];
  model: ModelEntry | undefined;
  apiKey: string;
  keepKey: boolean;
  onKey: (key: string, keep: boolean) => void;
  tint: boolean;
  onTint: (on: boolean) => void;
  onClose: () => void;
}

const presets: Record<Preset, string> = {
  default: 'Inkstone’s',
  llamacpp: 'llama.cpp’s',
  hf: 'transformers’',
};

const exampleSchema = `{
  "type": "object",
  "properties": {
    "name": {"type": "string", "maxLength": 24},
    "age": {"type": "integer", "minimum": 0, "maximum": 120},
    "likes": {"type": "array", "items": {"type": "string", "maxLength": 16}, "maxItems": 3}
  },
  "required": ["name", "age", "likes"],
  "additionalProperties": false
}`;

export function SettingsPanel(props: Props) {
  const { settings, model } = props;
  const set = <K extends keyof Settings>(key: K, value: Settings[K]) =>
    props.onSettings((old) => ({ ...old, [key]: value }));
  const setSampling = (change: Partial<Sampling>) =>
    props.onSettings((old) => ({ ...old, sampling: { ...old.sampling, ...change } }));
  const mode = effectiveMode(settings.mode, model);
  const problem = settings.schema.trim() === '' ? null : schemaProblem(settings.schema);
  return (
    <aside class="settings" aria-label="Settings" id="settings">
      <div class="panel-head">
        <h2>Settings</h2>
        <button type="button" class="quiet" aria-label="Close settings" onClick={props.onClose}>
          <CloseIcon />
        </button>
      </div>

      <section>
        <Field label="Model" id="model">
          <select id="model" value={model?.id ?? ''}
            onChange={(e) => set('model', e.currentTarget.value)}>
            {props.models.length === 0 && <option value="">default</option>}
            {props.models.map((m) => <option value={m.id}>{m.id}</option>)}
          </select>
        </Field>
        {model && (
          <p class="hint">
            {model.architecture}, {model.max_model_len.toLocaleString('en')} tokens of context
            {model.chat_template === false && ', no chat template'}
          </p>
        )}
        <Field label="Mode" id="mode">
          <select id="mode" value={settings.mode}
            onChange={(e) => set('mode', e.currentTarget.value as Mode)}>
            <option value="auto">auto{settings.mode === 'auto' && (mode === 'chat' ? ': chat' : ': write on')}</option>
            <option value="chat">chat</option>
            <option value="write">write on</option>
          </select>
        </Field>
        <Field label="API key" id="key">
          <input id="key" type="password" autocomplete="off" spellcheck={false}
            placeholder="if there is one" value={props.apiKey}
            onChange={(e) => props.onKey(e.currentTarget.value.trim(), props.keepKey)} />
        </Field>
        <Check checked={props.keepKey} onChange={(on) => props.onKey(props.apiKey, on)}>
          Keep the key on this device
        </Check>
      </section>

      {mode === 'chat' && (
        <section>
          <label class="block" for="system">System prompt</label>
          <textarea id="system" rows={3} value={props.system}
            placeholder="Of this conversation only"
            onInput={(e) => props.onSystem(e.currentTarget.value)} />
        </section>
      )}

      <section>
        <div class="section-head">
          <h3>Sampler</h3>
          <button type="button" class="link" onClick={() => setSampling(defaultSampling)}>
            Reset
          </button>
        </div>
        <Field label="Order" id="preset">
          <select id="preset" value={settings.sampling.preset}
            onChange={(e) => setSampling({ preset: e.currentTarget.value as Preset })}>
            {Object.entries(presets).map(([id, name]) => <option value={id}>{name}</option>)}
          </select>
        </Field>
        <Chain s={settings.sampling} set={setSampling} />
        <p class="chain-line" aria-live="polite">
          <span class="dim">effective: </span>
          <span id="effective-chain">{effectiveChain(settings.sampling).join(' → ')}</span>
        </p>
        <Field label="Seed" id="seed">
          <input id="seed" inputMode="numeric" placeholder="drawn each time"
            value={settings.sampling.seed}
            onInput={(e) => setSampling({ seed: e.currentTarget.value })} />
        </Field>
        <Field label="Max tokens" id="max">
          <input id="max" inputMode="numeric" value={settings.sampling.maxTokens}
            placeholder={mode === 'write' ? '200' : 'to the end of the context'}
            onInput={(e) => setSampling({ maxTokens: e.currentTarget.value })} />
        </Field>
        <label class="block" for="stop">Stop at, one text per line</label>
        <textarea id="stop" rows={1} value={settings.sampling.stop}
          onInput={(e) => setSampling({ stop: e.currentTarget.value })} />
      </section>

      <section>
        <div class="section-head">
          <h3>JSON Schema</h3>
          <button type="button" class="link"
            onClick={() => props.onSettings((o) => ({ ...o, schema: exampleSchema }))}>
            Example
          </button>
        </div>
        <Check checked={settings.schemaOn} onChange={(on) => set('schemaOn', on)}>
          Every answer satisfies this schema
        </Check>
        <textarea class="code" id="schema" rows={8} spellcheck={false} value={settings.schema}
          aria-label="JSON Schema" aria-invalid={problem !== null}
          aria-describedby="schema-problem" placeholder='{"type": "object"}'
          onInput={(e) => set('schema', e.currentTarget.value)} />
        <p id="schema-problem" class={problem ? 'note error' : 'hint'} aria-live="polite">
          {problem ?? (settings.schemaOn && settings.schema.trim() === ''
            ? 'empty: answers are free'
            : 'enforced token by token; a schema that cannot be is refused')}
        </p>
      </section>

      <section>
        <h3>Token probabilities</h3>
        <Check checked={settings.probabilities} onChange={(on) => set('probabilities', on)}>
          Ask for them; shown under the pointer
        </Check>
        <Check checked={props.tint} onChange={props.onTint}>Tint what was unlikely</Check>
      </section>
    </aside>
  );
}

function Field({ label, id, children }: {
  label: string; id: string; children: ComponentChildren;
}) {
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children}
    </div>
  );
}

function Check({ checked, onChange, children }: {
  checked: boolean; onChange: (on: boolean) => void; children: ComponentChildren;
}) {
  return (
    <label class="check">
      <input type="checkbox" checked={checked}
        onChange={(e) => onChange(e.currentTarget.checked)} />
      <span>{children}</span>
    </label>
  );
}

function Chain({ s, set }: { s: Sampling; set: (change: Partial<Sampling>) => void }) {
  const control = (stage: Stage): ComponentChildren => {
    switch (stage) {
      case 'penalties':
        return (
          <>
            <Slider label="repetition" value={s.repetition} min={1} max={2} step={0.01}
              onChange={(repetition) => set({ repetition })} />
            <Slider label="frequency" value={s.frequency} min={-2} max={2} step={0.05}
              onChange={(frequency) => set({ frequency })} />
            <Slider label="presence" value={s.presence} min={-2} max={2} step={0.05}
              onChange={(presence) => set({ presence })} />
          </>
        );
      case 'dry':
        return (
          <Slider label="dry" value={s.dryMultiplier} min={0} max={2} step={0.05}
            onChange={(dryMultiplier) => set({ dryMultiplier })} />
        );
      case 'top_n_sigma':
        return (
          <Slider label="top n sigma" value={s.topNSigma} min={0} max={4} step={0.1}
            onChange={(topNSigma) => set({ topNSigma })} />
        );
      case 'temperature':
        return (
          <Slider label="temperature" value={s.temperature} min={0} max={2} step={0.05}
            onChange={(temperature) => set({ temperature })} />
        );
      case 'top_k':
        return (
          <Slider label="top k" value={s.topK} min={0} max={200} step={1}
            onChange={(topK) => set({ topK })} />
        );
      case 'top_p':
        return (
          <Slider label="top p" value={s.topP} min={0} max={1} step={0.01}
            onChange={(topP) => set({ topP })} />
        );
      case 'min_p':
        return (
          <Slider label="min p" value={s.minP} min={0} max={1} step={0.01}
            onChange={(minP) => set({ minP })} />
        );
      case 'typical':
        return (
          <Slider label="typical p" value={s.typicalP} min={0.01} max={1} step={0.01}
            onChange={(typicalP) => set({ typicalP })} />
        );
      case 'xtc':
        return (
          <>
            <Slider label="xtc chance" value={s.xtcProbability} min={0} max={1} step={0.05}
              onChange={(xtcProbability) => set({ xtcProbability })} />
            <Slider label="xtc threshold" value={s.xtcThreshold} min={0} max={0.5} step={0.01}
              onChange={(xtcThreshold) => set({ xtcThreshold })} />
          </>
        );
    }
  };
  return (
    <ol class="chain" aria-label="Sampler stages in order">
      {presetStages[s.preset].map((stage) => (
        <li key={stage} class={isActive(s, stage) ? 'active' : ''} data-stage={stage}>
          {control(stage)}
        </li>
      ))}
      <li class="active last">
        {isGreedy(s) ? (
          <p>greedy: the most probable token</p>
        ) : (
          <>
            <Check checked={s.mirostat} onChange={(mirostat) => set({ mirostat })}>
              {s.mirostat ? 'mirostat 2' : 'draw; mirostat 2 instead'}
            </Check>
            {s.mirostat && (
              <Slider label="surprise" value={s.mirostatTau} min={0} max={10} step={0.1}
                onChange={(mirostatTau) => set({ mirostatTau })} />
            )}
          </>
        )}
      </li>
    </ol>
  );
}

function Slider({ label, value, min, max, step, onChange }: {
  label: string; value: number; min: number; max: number; step: number;
  onChange: (value: number) => void;
}) {
  const clamp = (text: string) => {
    const number = Number(text);
    if (text.trim() === '' || !Number.isFinite(number)) return;
    onChange(Math.max(min, Math.min(max, step >= 1 ? Math.round(number) : number)));
  };
  return (
    <div class="slider">
      <span class="slider-label">{label}</span>
      <input type="range" aria-label={label} min={min} max={max} step={step} value={value}
        onInput={(e) => clamp(e.currentTarget.value)} />
      <input type="text" inputMode="decimal" aria-label={`${label}, number`} value={String(value)}
        onChange={(e) => clamp(e.currentTarget.value)} />
    </div>
  );
}
