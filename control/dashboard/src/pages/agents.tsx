// The agents: who answers calls, where their definition comes from, and in which version.
import { A, useNavigate } from '@solidjs/router'
import { createSignal, Show } from 'solid-js'
import { api, take, type Schemas } from '../api/client'
import { can, is } from '../session'
import { day, words } from '../format'
import { Button, Empty, Head, Modal, Notice, Tag, Text, useWork } from '../ui/parts'
import { List, usePages } from '../ui/pages'
import { begin } from '../call/web-call'
import { STARTER } from '../call/starter'

type Agent = Schemas['Agent']

export const AgentState = (props: { state: Schemas['AgentReadiness'] }) => <Tag tone={{ ready: 'good', loading: 'warn', failed: 'bad' }[props.state]}>{words(props.state)}</Tag>

export default function Agents() {
  const navigate = useNavigate()
  const [adding, setAdding] = createSignal(false)
  const pages = usePages<Agent>((after) => take(api.GET('/api/v1/agents', { params: { query: { after } } })))
  return (
    <div class="page">
      <Head title="Agents" sub="An agent listens, thinks and speaks as its definition says.">
        <Show when={is('administrator')}><Button kind="primary" icon="plus" onClick={() => setAdding(true)}>Add an agent</Button></Show>
      </Head>
      <List label="Agents" pages={pages} open={(agent) => navigate(`/agents/${encodeURIComponent(agent.name)}`)} empty={<Empty title="No agent yet." />} columns={[
        { title: 'Name', cell: (agent) => <><A href={`/agents/${encodeURIComponent(agent.name)}`}><b>{agent.name}</b></A><Show when={agent.fault}><br /><span class="small muted">{agent.fault}</span></Show></> },
        { title: 'State', kind: 'fit', cell: (agent) => agent.state ? <AgentState state={agent.state} /> : <Tag>Draft</Tag> },
        { title: 'From', kind: 'fit', phone: false, cell: (agent) => ({ built_in: 'Built in', file: 'A file', stored: 'Here', program: 'The program' })[agent.source] },
        { title: 'Version', kind: 'right', phone: false, cell: (agent) => agent.published ?? (agent.latest ? 'none' : '–') },
        { title: 'Changed', kind: 'fit', wide: true, cell: (agent) => day(agent.updated_at) },
        { title: '', kind: 'fit', cell: (agent) => <Show when={can('/web-calls') && is('supervisor') && agent.state === 'ready'}><Button tiny icon="phone" aria-label={`Call it now: ${agent.name}`} onClick={() => begin({ connect_with: agent.name }, `Call with ${agent.name}`)}>Call it now</Button></Show> },
      ]} />
      <Show when={adding()}><Add close={() => setAdding(false)} done={(name) => navigate(`/agents/${encodeURIComponent(name)}`)} /></Show>
    </div>
  )
}

function Add(props: { close: () => void; done: (name: string) => void }) {
  const [name, setName] = createSignal('')
  const work = useWork()
  const submit = async (event: SubmitEvent) => {
    event.preventDefault()
    if (await work.run(() => take(api.POST('/api/v1/agents', { body: { name: name(), definition: STARTER(name()), note: 'First draft' } })))) props.done(name())
  }
  return (
    <Modal title="Add an agent" close={props.close}>
      <form class="form" onSubmit={submit}>
        <Text label="Name" required value={name()} on={setName} wrong={work.wrong('name')} hint="Callers reach it at sip:NAME@. It begins with a short script, to be changed." />
        <Notice>{work.rest('name')}</Notice>
        <div class="buttons"><Button onClick={props.close}>Cancel</Button><Button kind="primary" type="submit" disabled={work.busy()}>Add</Button></div>
      </form>
    </Modal>
  )
}
