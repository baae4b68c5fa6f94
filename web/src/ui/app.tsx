// The page: its head, the two rooms behind it, and what they share.
import { useCallback, useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { ApiError, listModels, type ModelEntry } from '../api/client';
import { defaultSampling } from '../chat/sampling';
import type { Settings } from '../chat/request';
import { EngineRoom } from '../engine/room';
import { ChatRoom } from './chat';
import { useRoute, useStored } from './hooks';
import { AutoIcon, Mark, MoonIcon, SunIcon } from './icons';

export type Theme = 'auto' | 'light' | 'dark';

const defaultSettings: Settings = {
  model: '',
  mode: 'auto',
  sampling: defaultSampling,
  probabilities: true,
  schemaOn: false,
  schema: '',
};

// Settings of an older version lack what came later.
const mergeSettings = (stored: unknown): Settings => {
  const s = stored as Partial<Settings>;
  return { ...defaultSettings, ...s, sampling: { ...defaultSampling, ...s.sampling } };
};

const keyName = 'inkstone.key';

/** The API key: for this tab, or for this device where that was asked for. */
function useKey(): [string, boolean, (key: string, keep: boolean) => void] {
  const [value, setValue] = useState(() => {
    const kept = localStorage.getItem(keyName);
    return { key: kept ?? sessionStorage.getItem(keyName) ?? '', keep: kept !== null };
  });
  const set = useCallback((key: string, keep: boolean) => {
    setValue({ key, keep });
    (keep ? localStorage : sessionStorage).setItem(keyName, key);
    (keep ? sessionStorage : localStorage).removeItem(keyName);
  }, []);
  return [value.key, value.keep, set];
}

export function App() {
  const route = useRoute();
  const [theme, setTheme] = useStored<Theme>('inkstone.theme', 'auto');
  const [settings, setSettings] = useStored('inkstone.settings', defaultSettings, mergeSettings);
  const [key, keepKey, setKey] = useKey();
  const [models, setModels] = useState<ModelEntry[]>([]);
  const [problem, setProblem] = useState('');
  const [level, setLevel] = useState(0);
  const attempt = useRef(0);

  useEffect(() => {
    if (theme === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }, [theme]);

  const load = useCallback(async () => {
    const mine = ++attempt.current;
    try {
      const found = await listModels(key);
      if (mine !== attempt.current) return;
      setModels(found);
      setProblem('');
    } catch (e) {
      if (mine !== attempt.current) return;
      setProblem(
        e instanceof ApiError && e.status === 401
          ? 'This server asks for an API key: enter yours in the settings.'
          : `The server cannot be reached: ${e instanceof Error ? e.message : String(e)}`,
      );
    }
  }, [key]);
  useEffect(() => {
    const timer = setTimeout(load, key ? 300 : 0);
    return () => clearTimeout(timer);
  }, [load, key]);
  // Until it answers: a server that restarts comes back by itself.
  useEffect(() => {
    if (problem === '') return undefined;
    const timer = setInterval(load, 5000);
    return () => clearInterval(timer);
  }, [problem, load]);

  const model = useMemo(
    () => models.find((m) => m.id === settings.model) ?? models[0],
    [models, settings.model],
  );
  const room = route === 'engine' ? 'engine' : 'chat';
  useEffect(() => {
    document.title = room === 'engine' ? 'Engine room — Inkstone' : 'Inkstone';
  }, [room]);
  const next: Theme = theme === 'auto' ? 'light' : theme === 'light' ? 'dark' : 'auto';
  const ThemeIcon = theme === 'auto' ? AutoIcon : theme === 'light' ? SunIcon : MoonIcon;

  return (
    <div class="page">
      <a class="skip" href="#main" onClick={(e) => {
        e.preventDefault();
        document.getElementById('main')?.focus();
      }}>Skip to the content</a>
      <header class="top">
        <a class="brand" href="#/" aria-label="Inkstone">
          <Mark level={level} />
          <span>Inkstone</span>
        </a>
        <nav aria-label="Rooms">
          <a href="#/" aria-current={room === 'chat' ? 'page' : undefined}>Writing</a>
          <a href="#/engine" aria-current={room === 'engine' ? 'page' : undefined}>Engine room</a>
        </nav>
        <button type="button" class="quiet theme" onClick={() => setTheme(next)}
          aria-label={`Colours: ${theme}; change to ${next}`} title={`Colours: ${theme}`}>
          <ThemeIcon />
        </button>
      </header>
      {problem && (
        <p class="banner" role="alert">
          {problem} <button type="button" class="link" onClick={load}>Try again</button>
        </p>
      )}
      {/* Kept while the other room is open: an answer goes on being written. */}
      <ChatRoom
        hidden={room !== 'chat'}
        models={models}
        model={model}
        settings={settings}
        onSettings={setSettings}
        apiKey={key}
        keepKey={keepKey}
        onKey={setKey}
        wantsKey={problem.includes('API key')}
      />
      {room === 'engine' && <EngineRoom apiKey={key} onLevel={setLevel} />}
    </div>
  );
}
