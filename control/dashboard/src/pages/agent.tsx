// An agent's definition: written, checked while it is written, talked with in writing, published, and called at once.
import { useNavigate, useParams } from '@solidjs/router'
import { createEffect, createResource, createSignal, For, on, onCleanup, Show } from 'solid-js'
import { api, ask, Fault, take, type Page, type Schemas } from '../api/client'
import { can, is } from '../session'
import { day, words } from '../format'
import { act, Button, Confirm, Empty, Head, Modal, Notice, Panel, Tag, Text, toast, useWork } from '../ui/parts'
import { begin } from '../call/web-call'
import { AgentState } from './agents'

type Detail = Schemas['AgentDetail']
type Version = Schemas['AgentVersion']
type Wrong = Schemas['AgentFault']

/** A definition is checked when nobody has typed for so long, in ms. */
const CHECKED_AFTER_MS = 600

export default function AgentPage() {
  const params = useParams<{ name: string }>()
  const [agent, { refetch }] = createResource(() => params.name, (name) => take(api.GET('/api/v1/agents/{name}', { params: { path: { name } } })).catch((thrown) => Fault.of(thrown)))
  return (
    <Show when={agent.latest ?? agent()} fallback={<p class="empty">Loading…</p>}>{(found) => {
      const one = () => found()
      return (
        <Show when={!(one() instanceof Fault)} fallback={<div class="page"><Head title="Agent" /><div class="panel"><Empty title="There is no such agent.">{(one() as Fault).message}</Empty></div></div>}>
          <Editor agent={one() as Detail} again={refetch} />
        </Show>
      )
    }}</Show>
  )
}

function Editor(props: { agent: Detail; again: () => void }) {
  const navigate = useNavigate()
  const name = () => props.agent.name
  const isStored = () => props.agent.source === 'stored'
  const mayChange = () => isStored() && is('administrator')
  const [text, setText] = createSignal(props.agent.definition ?? '')
  const [kept, setKept] = createSignal(props.agent.definition ?? '')
  const [saving, setSaving] = createSignal(false)
  const [copying, setCopying] = createSignal(false)
  const [removing, setRemoving] = createSignal(false)
  const [faults, setFaults] = createSignal<Wrong[] | null>(null)
  let area!: HTMLTextAreaElement
  const [versions, { refetch }] = createResource(() => isStored() && name(), (name) => ask<Page<Version>>('GET', `/api/v1/agents/${encodeURIComponent(name)}/versions`).then((page) => page.items).catch(() => []))
  const isChanged = () => text() !== kept()

  const check = () => take(api.POST('/api/v1/agents/check', { body: { definition: text() } })).then(({ faults }) => setFaults(faults)).catch((thrown) => toast(Fault.of(thrown).message, true))
  let timer = 0
  createEffect(on(text, () => {
    clearTimeout(timer)
    if (is('administrator') && isChanged()) timer = window.setTimeout(check, CHECKED_AFTER_MS)
  }, { defer: true }))
  onCleanup(() => clearTimeout(timer))

  const load = (version: Version) => act(async () => {
    const found = await take(api.GET('/api/v1/agents/{name}/versions/{version}', { params: { path: { name: name(), version: version.version } } }))
    setText(found.definition); setKept(found.definition); setFaults(null)
  })
  const publish = (version: number) => act(async () => {
    await ask('PUT', `/api/v1/agents/${encodeURIComponent(name())}/published`, { body: { version } })
    props.again(); void refetch()
  }, `Version ${version} takes calls from now on.`)
  const saved = (version: number) => { setSaving(false); setKept(text()); void refetch(); props.again(); toast(`Kept as version ${version}.`) }
  const goTo = (line?: number | null) => {
    if (!line) return
    const start = text().split('\n').slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0)
    area.focus()
    area.setSelectionRange(start, start + (text().split('\n')[line - 1]?.length ?? 0))
    area.scrollTop = Math.max(0, (line - 8) * parseFloat(getComputedStyle(area).lineHeight))
  }
  return (
    <div class="page">
      <Head title={name()} sub={<><Show when={props.agent.state}>{(state) => <AgentState state={state()} />}</Show> {{ built_in: 'Built in', file: 'From a file', stored: props.agent.published ? `Version ${props.agent.published} takes calls` : 'Not published', program: "The program's own" }[props.agent.source]}</>}>
        <Show when={can('/web-calls') && is('supervisor') && props.agent.state === 'ready'}><Button icon="phone" kind={mayChange() ? undefined : 'primary'} onClick={() => begin({ connect_with: name() }, `Call with ${name()}`)}>Call it now</Button></Show>
        <Show when={is('administrator')}><Button onClick={() => setCopying(true)}>Copy</Button></Show>
        <Show when={mayChange()}>
          <Button kind="danger" onClick={() => setRemoving(true)}>Remove</Button>
          <Button kind="primary" disabled={!isChanged()} onClick={() => setSaving(true)}>Save…</Button>
        </Show>
      </Head>
      <Show when={props.agent.fault}><Notice>{props.agent.fault}</Notice></Show>
      <div class="columns">
        <div>
          <Panel title="Definition" tools={<Show when={is('administrator')}><Show when={faults()} keyed>{(faults) => faults.length ? <Tag tone="bad">{faults.length} wrong</Tag> : <Tag tone="good">Nothing wrong</Tag>}</Show><Button tiny onClick={check}>Check</Button></Show>}>
            <Show when={props.agent.definition != null} fallback={<p class="muted">It has no definition to be shown.</p>}>
              <textarea class="code" ref={area} aria-label="Definition, as TOML" rows="32" spellcheck={false} wrap="off" readonly={!mayChange()} value={text()} onInput={(event) => setText(event.currentTarget.value)} />
            </Show>
            <ul class="form" role="status" aria-label="What is wrong">
              <For each={faults()}>{(fault) => <li class="notice"><Show when={fault.line}><Button tiny onClick={() => goTo(fault.line)}>Line {fault.line}</Button> </Show><Show when={fault.field}><code>{fault.field}</code>: </Show>{fault.detail}</li>}</For>
            </ul>
          </Panel>
        </div>
        <div>
          <Show when={is('administrator')}><Conversation definition={text()} /></Show>
          <Show when={isStored()}>
            <Panel title="Versions" flush>
              <table class="table" aria-label="Versions"><tbody>
                <For each={versions()}>{(version) => (
                  <tr>
                    <td><b>{version.version}</b> {version.note}<br /><span class="small muted">{version.created_by}, {day(version.created_at)}</span></td>
                    <td class="fit"><span class="actions">
                      <Button tiny aria-label={`Open version ${version.version}`} onClick={() => load(version)}>Open</Button>
                      <Show when={version.published} fallback={<Show when={mayChange()}><Button tiny aria-label={`Publish version ${version.version}`} onClick={() => publish(version.version)}>Publish</Button></Show>}><Tag tone="good">Takes calls</Tag></Show>
                    </span></td>
                  </tr>
                )}</For>
              </tbody></table>
            </Panel>
          </Show>
        </div>
      </div>
      <Show when={saving()}><Save name={name()} definition={text()} close={() => setSaving(false)} done={saved} publish={publish} /></Show>
      <Show when={copying()}><Copy definition={text()} from={name()} close={() => setCopying(false)} done={(made) => { setCopying(false); navigate(`/agents/${made}`) }} /></Show>
      <Show when={removing()}><Confirm title={`Remove ${name()}`} action="Remove" close={() => setRemoving(false)} do={async () => { await ask('DELETE', `/api/v1/agents/${encodeURIComponent(name())}`); navigate('/agents') }}>All of its versions go. Calls that it holds go on.</Confirm></Show>
    </div>
  )
}

function Save(props: { name: string; definition: string; close: () => void; done: (version: number) => void; publish: (version: number) => Promise<void> }) {
  const [note, setNote] = createSignal('')
  const work = useWork()
  const save = (publish: boolean) => work.run(async () => {
    const made = await take(api.POST('/api/v1/agents/{name}/versions', { params: { path: { name: props.name } }, body: { definition: props.definition, note: note() } })) as unknown as Version
    if (publish) await props.publish(made.version)
    props.done(made.version)
  })
  return (
    <Modal title="Save a version" close={props.close}>
      <form class="form" onSubmit={(event) => { event.preventDefault(); void save(true) }}>
        <Text label="What is new in it" value={note()} on={setNote} wrong={work.wrong('note')} />
        <Notice>{work.rest('note')}</Notice>
        <div class="buttons"><Button onClick={() => save(false)} disabled={work.busy()}>Save only</Button><Button kind="primary" type="submit" disabled={work.busy()}>Save and publish</Button></div>
      </form>
    </Modal>
  )
}

function Copy(props: { from: string; definition: string; close: () => void; done: (name: string) => void }) {
  const [name, setName] = createSignal(`${props.from}-2`)
  const work = useWork()
  const renamed = () => props.definition.replace(/^(name\s*=\s*)"[^"]*"/m, `$1"${name()}"`)
  const submit = async (event: SubmitEvent) => {
    event.preventDefault()
    if (await work.run(() => take(api.POST('/api/v1/agents', { body: { name: name(), definition: renamed(), note: `Copy of ${props.from}` } })))) props.done(name())
  }
  return (
    <Modal title={`Copy ${props.from}`} close={props.close}>
      <form class="form" onSubmit={submit}>
        <Text label="Name of the copy" required value={name()} on={setName} wrong={work.wrong('name')} />
        <Notice>{work.rest('name')}</Notice>
        <div class="buttons"><Button onClick={props.close}>Cancel</Button><Button kind="primary" type="submit" disabled={work.busy()}>Copy</Button></div>
      </form>
    </Modal>
  )
}

/** A conversation in writing with the definition as it stands in the editor; it begins anew with each sentence, with all that was said. */
function Conversation(props: { definition: string }) {
  const [said, setSaid] = createSignal<string[]>([])
  const [text, setText] = createSignal('')
  const [turns, setTurns] = createSignal<Schemas['WrittenTurn'][]>([])
  const [ended, setEnded] = createSignal('')
  const work = useWork()
  const converse = (all: string[]) => work.run(async () => {
    const found = await take(api.POST('/api/v1/agents/conversation', { body: { definition: props.definition, said: all } }))
    setSaid(all); setTurns(found.turns); setEnded(found.ended ?? '')
  })
  const submit = async (event: SubmitEvent) => {
    event.preventDefault()
    const sentence = text().trim()
    if (sentence && (await converse([...said(), sentence]))) setText('')
  }
  return (
    <Panel title="Test conversation" tools={<Button tiny onClick={() => converse([])}>{turns().length ? 'Begin anew' : 'Begin'}</Button>}>
      <Show when={turns().length} fallback={<p class="muted">Talk in writing with the definition as it stands here, saved or not. Digits are keys.</p>}>
        <ol class="talk live" aria-live="polite" aria-label="Test conversation" tabindex="0"><For each={turns()}>{(turn) => <li class={turn.speaker}><span class="at" /><span class="said"><b>{words(turn.speaker)}</b>{turn.text}</span></li>}</For></ol>
      </Show>
      <Show when={ended()}><p class="small muted">It ended: {ended()}.</p></Show>
      <Notice>{work.fault()?.message}</Notice>
      <Show when={turns().length}>
        <form class="filters" onSubmit={submit}><Text class="wide" label="You say" value={text()} on={setText} /><Button type="submit" disabled={work.busy() || !text().trim()}>Say</Button></form>
      </Show>
    </Panel>
  )
}
