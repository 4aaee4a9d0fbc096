// The small parts that every page is made of.
import { createEffect, createSignal, createUniqueId, For, onCleanup, Show, splitProps, type JSX, type ParentProps } from 'solid-js'
import { Fault } from '../api/client'
import { Icon, type IconName } from './icon'

export type Tone = '' | 'good' | 'warn' | 'bad' | 'info' | (string & {})

export function Button(props: ParentProps<{ kind?: 'primary' | 'danger' | 'quiet' | 'solid-danger'; icon?: IconName; on?: boolean; tiny?: boolean } & JSX.ButtonHTMLAttributes<HTMLButtonElement>>) {
  const [own, rest] = splitProps(props, ['kind', 'icon', 'on', 'tiny', 'children', 'class'])
  return (
    <button type="button" {...rest} aria-pressed={own.on}
      class={`button ${own.kind ?? ''} ${own.class ?? ''}`} classList={{ on: own.on, tiny: own.tiny, 'icon-only': !own.children }}>
      <Show when={own.icon}>{(icon) => <Icon name={icon()} />}</Show>{own.children}
    </button>
  )
}

export const Tag = (props: ParentProps<{ tone?: Tone }>) => <span class={`tag ${props.tone ?? ''}`}>{props.children}</span>

/** What a page is about, here and in the window's title. */
export function Head(props: ParentProps<{ title: string; sub?: JSX.Element }>) {
  createEffect(() => { document.title = `${props.title} · Omnivox` })
  return (
    <header class="head">
      <div><h1>{props.title}</h1><Show when={props.sub}><p class="sub">{props.sub}</p></Show></div>
      <div class="actions">{props.children}</div>
    </header>
  )
}

export const Panel = (props: ParentProps<{ title: string; tools?: JSX.Element; flush?: boolean }>) => {
  const id = createUniqueId()
  return (
    <section class="panel" aria-labelledby={id}>
      <header><h2 id={id}>{props.title}</h2>{props.tools}</header>
      <Show when={!props.flush} fallback={props.children}><div class="body">{props.children}</div></Show>
    </section>
  )
}

export const Empty = (props: ParentProps<{ title: string }>) => (
  <div class="empty"><strong>{props.title}</strong><Show when={props.children}><p>{props.children}</p></Show></div>
)

/** Text with `code` in it. */
export const Prose = (props: { text: string }) => <For each={props.text.split('`')}>{(part, at) => (at() % 2 ? <code>{part}</code> : part)}</For>

export const Notice = (props: ParentProps<{ tone?: 'info' | 'good' | 'warn' }>) => (
  <Show when={props.children}><p class={`notice ${props.tone ?? ''}`} role={props.tone ? 'status' : 'alert'}>{props.children}</p></Show>
)

/** A labelled field; what is wrong with it is read out with it. */
export function Field(props: { label: string; hint?: JSX.Element; wrong?: string; children: (attributes: { id: string; 'aria-describedby'?: string; 'aria-invalid'?: 'true' }) => JSX.Element; class?: string }) {
  const id = createUniqueId()
  const about = `${id}-about`
  return (
    <div class={`field ${props.class ?? ''}`}>
      <label for={id}>{props.label}</label>
      {props.children({
        id,
        get 'aria-describedby'() { return props.wrong || props.hint ? about : undefined },
        get 'aria-invalid'() { return props.wrong ? ('true' as const) : undefined },
      } as { id: string })}
      <Show when={props.wrong || props.hint}>
        <span id={about} class={props.wrong ? 'wrong' : 'hint'}>{props.wrong || props.hint}</span>
      </Show>
    </div>
  )
}

type Bound = { value: string; on: (value: string) => void }
type TextProps = Omit<JSX.InputHTMLAttributes<HTMLInputElement>, 'value' | 'on' | 'onInput'> & Bound & { label: string; hint?: JSX.Element; wrong?: string; class?: string }

export function Text(props: TextProps) {
  const [own, rest] = splitProps(props, ['label', 'hint', 'wrong', 'value', 'on', 'class'])
  return (
    <Field label={own.label} hint={own.hint} wrong={own.wrong} class={own.class}>
      {(attributes) => <input type="text" autocomplete="off" {...rest} {...attributes} value={own.value} onInput={(event) => own.on(event.currentTarget.value)} />}
    </Field>
  )
}

export function Select(props: Bound & { label: string; hint?: JSX.Element; wrong?: string; options: readonly (readonly [string, string])[]; class?: string }) {
  return (
    <Field label={props.label} hint={props.hint} wrong={props.wrong} class={props.class}>
      {(attributes) => (
        <select {...attributes} value={props.value} onChange={(event) => props.on(event.currentTarget.value)}>
          <For each={props.options}>{([value, text]) => <option value={value} selected={value === props.value}>{text}</option>}</For>
        </select>
      )}
    </Field>
  )
}

export function Check(props: { label: string; value: boolean; on: (value: boolean) => void; disabled?: boolean }) {
  return (
    <label class="check">
      <input type="checkbox" checked={props.value} disabled={props.disabled} onChange={(event) => props.on(event.currentTarget.checked)} />{props.label}
    </label>
  )
}

/** A window over the page, closed by Escape. */
export function Modal(props: ParentProps<{ title: string; close: () => void }>) {
  const id = createUniqueId()
  let dialog!: HTMLDialogElement
  createEffect(() => {
    dialog.showModal()
    // Whoever opened it wants to write, not to close it.
    dialog.querySelector<HTMLElement>('.body :is(input, textarea, select):not([readonly], [disabled])')?.focus()
  })
  return (
    <dialog ref={dialog} aria-labelledby={id} onClose={() => props.close()} onCancel={() => props.close()}>
      <header><h2 id={id}>{props.title}</h2><Button kind="quiet" icon="close" aria-label="Close" onClick={() => props.close()} /></header>
      <div class="body">{props.children}</div>
    </dialog>
  )
}

/** Something that cannot be taken back. */
export function Confirm(props: ParentProps<{ title: string; action: string; do: () => Promise<unknown>; close: () => void }>) {
  const work = useWork()
  return (
    <Modal title={props.title} close={props.close}>
      <div class="form">
        <div>{props.children}</div>
        <Notice>{work.fault()?.message}</Notice>
        <div class="buttons">
          <Button onClick={() => props.close()}>Cancel</Button>
          <Button kind="solid-danger" disabled={work.busy()} onClick={async () => { if (await work.run(props.do)) props.close() }}>{props.action}</Button>
        </div>
      </div>
    </Modal>
  )
}

/** A secret that is shown this once. */
export function Secret(props: { value: string; label: string }) {
  // A page by plain HTTP has no clipboard.
  const copy = () => (navigator.clipboard?.writeText(props.value) ?? Promise.reject()).then(() => toast('Copied.'), () => toast('It could not be copied: select it by hand.', true))
  return <div class="secret"><input class="mono" readonly aria-label={props.label} value={props.value} onFocus={(event) => event.currentTarget.select()} /><Button onClick={copy}>Copy</Button></div>
}

/** Runs something of the server's: whether it is under way, and what went wrong. */
export function useWork() {
  const [busy, setBusy] = createSignal(false)
  const [fault, setFault] = createSignal<Fault | null>(null)
  const run = async (work: () => Promise<unknown>): Promise<boolean> => {
    setBusy(true)
    setFault(null)
    try {
      await work()
      return true
    } catch (thrown) {
      setFault(Fault.of(thrown))
      return false
    } finally {
      setBusy(false)
    }
  }
  /** What is wrong with a field, or with something in it (`hosts[2]`). */
  const isOf = (name: string, field: string) => name === field || name.startsWith(`${field}[`) || name.startsWith(`${field}.`)
  const wrong = (field: string) => Object.entries(fault()?.fields ?? {}).find(([name]) => isOf(name, field))?.[1]
  /** The fault as a whole, where no shown field says it already. */
  const rest = (...shown: string[]) => (fault() && !Object.keys(fault()!.fields).some((name) => shown.some((field) => isOf(name, field))) ? fault()!.message : undefined)
  return { busy, fault, run, wrong, rest, clear: () => setFault(null) }
}

const [toasts, setToasts] = createSignal<{ text: string; bad: boolean }[]>([])

/** Says something for a few seconds. */
export function toast(text: string, bad = false) {
  const one = { text, bad }
  setToasts((all) => [...all.slice(-2), one])
  setTimeout(() => setToasts((all) => all.filter((other) => other !== one)), bad ? 8_000 : 4_000)
}

/** Does something at once and says how it went. */
export async function act(work: () => Promise<unknown>, done?: string) {
  try {
    await work()
    if (done) toast(done)
  } catch (thrown) {
    toast(Fault.of(thrown).message, true)
  }
}

export const Toasts = () => (
  <div class="toasts" role="status" aria-live="polite"><For each={toasts()}>{(one) => <div classList={{ bad: one.bad }}>{one.text}</div>}</For></div>
)

/** This moment, each second. */
export function useNow() {
  const [now, setNow] = createSignal(Date.now())
  const timer = setInterval(() => setNow(Date.now()), 1_000)
  onCleanup(() => clearInterval(timer))
  return now
}
