// API keys: for programs, each with what it may do.
import { createSignal, For, Show } from 'solid-js'
import { api, ask, take, type Schemas } from '../api/client'
import { is, who } from '../session'
import { day } from '../format'
import { Button, Check, Confirm, Empty, Head, Modal, Notice, Secret, Select, Tag, Text, useWork } from '../ui/parts'
import { List, usePages } from '../ui/pages'

type Key = Schemas['ApiKey']
type Scope = Schemas['Scope']
const LASTS = [['30', '30 days'], ['90', '90 days'], ['365', 'A year'], ['', 'Always']] as const

export default function Keys() {
  const [making, setMaking] = createSignal(false)
  const [ending, setEnding] = createSignal<Key | null>(null)
  const pages = usePages<Key>((after) => take(api.GET('/api/v1/api-keys', { params: { query: { after } } })))
  return (
    <div class="page">
      <Head title="API keys" sub="A program sends its key as a Bearer. It may do what its scopes say, and never more than you."><Button kind="primary" icon="plus" onClick={() => setMaking(true)}>Make a key</Button></Head>
      <List label="API keys" pages={pages} empty={<Empty title="No key yet.">Make one for each program, so that each can be ended alone.</Empty>} columns={[
        { title: 'Name', cell: (key) => <><b>{key.name}</b> <code class="muted">{key.prefix}…</code></> },
        ...(is('administrator') ? [{ title: 'Whose', kind: 'fit' as const, cell: (key: Key) => key.owner }] : []),
        { title: 'May', wide: true, cell: (key) => <For each={key.scopes}>{(scope) => <><Tag>{scope}</Tag> </>}</For> },
        { title: 'Last used', kind: 'fit', phone: false, cell: (key) => day(key.used_at) },
        { title: 'Good until', kind: 'fit', phone: false, cell: (key) => (key.expires_at ? day(key.expires_at) : 'Always') },
        { title: '', kind: 'fit', cell: (key) => <Button tiny kind="danger" aria-label={`End ${key.name}`} onClick={() => setEnding(key)}>End</Button> },
      ]} />
      <Show when={making()}><Make close={() => { setMaking(false); void pages.again() }} /></Show>
      <Show when={ending()} keyed>{(key) => (
        <Confirm title={`End ${key.name}`} action="End it" close={() => setEnding(null)} do={async () => { await ask('DELETE', `/api/v1/api-keys/${key.id}`); void pages.again() }}>Whatever program uses it is refused from now on.</Confirm>
      )}</Show>
    </div>
  )
}

function Make(props: { close: () => void }) {
  const [name, setName] = createSignal('')
  const [chosen, setChosen] = createSignal<Scope[]>([])
  const [days, setDays] = createSignal('90')
  const [secret, setSecret] = createSignal('')
  const work = useWork()
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    void work.run(async () => {
      const expires_at = days() ? new Date(Date.now() + Number(days()) * 86_400_000).toISOString() : null
      setSecret((await take(api.POST('/api/v1/api-keys', { body: { name: name(), scopes: chosen(), expires_at } }))).secret)
    })
  }
  return (
    <Modal title="Make a key" close={props.close}>
      <Show when={!secret()} fallback={
        <div class="form">
          <Notice tone="info">Copy it now: it is not shown again.</Notice><Secret value={secret()} label="The key" />
          <div class="buttons"><Button kind="primary" onClick={props.close}>Done</Button></div>
        </div>
      }>
        <form class="form" onSubmit={submit}>
          <div class="row"><Text label="What it is for" required value={name()} on={setName} wrong={work.wrong('name')} /><Select label="Good for" value={days()} on={setDays} options={LASTS} wrong={work.wrong('expires_at')} /></div>
          <fieldset class="form">
            <legend class="small"><b>It may</b></legend>
            <For each={who()?.scopes}>{(scope) => <Check label={scope} value={chosen().includes(scope)} on={(on) => setChosen((all) => on ? [...all, scope] : all.filter((other) => other !== scope))} />}</For>
          </fieldset>
          <Notice>{work.wrong('scopes') ?? work.rest('name', 'expires_at')}</Notice>
          <div class="buttons"><Button onClick={props.close}>Cancel</Button><Button kind="primary" type="submit" disabled={work.busy() || !chosen().length}>Make it</Button></div>
        </form>
      </Show>
    </Modal>
  )
}
