// Teams: whose calls a supervisor sees.
import { createSignal, Show } from 'solid-js'
import { api, ask, tagged, take, type Schemas } from '../api/client'
import { is } from '../session'
import { day } from '../format'
import { Button, Confirm, Empty, Head, Modal, Notice, Text, useWork } from '../ui/parts'
import { List, usePages } from '../ui/pages'

type Team = Schemas['Team']

export default function Teams() {
  const [editing, setEditing] = createSignal<Team | 'new' | null>(null)
  const [removing, setRemoving] = createSignal<Team | null>(null)
  const pages = usePages<Team>((after) => take(api.GET('/api/v1/teams', { params: { query: { after } } })))
  const done = () => { setEditing(null); setRemoving(null); void pages.again() }
  return (
    <div class="page">
      <Head title="Teams" sub="Supervisors see the calls of their team.">
        <Show when={is('administrator')}><Button kind="primary" icon="plus" onClick={() => setEditing('new')}>Add a team</Button></Show>
      </Head>
      <List label="Teams" pages={pages} empty={<Empty title="No team yet.">A team groups operators under their supervisors.</Empty>} columns={[
        { title: 'Name', cell: (team) => <b>{team.name}</b> },
        { title: 'Made', phone: false, cell: (team) => day(team.created_at) },
        { title: '', kind: 'fit', cell: (team) => (
          <Show when={is('administrator')}>
            <span class="actions"><Button tiny aria-label={`Rename ${team.name}`} onClick={() => setEditing(team)}>Rename</Button><Button tiny kind="danger" aria-label={`Remove ${team.name}`} onClick={() => setRemoving(team)}>Remove</Button></span>
          </Show>
        ) },
      ]} />
      <Show when={editing()} keyed>{(team) => <Edit team={team === 'new' ? null : team} close={() => setEditing(null)} done={done} />}</Show>
      <Show when={removing()} keyed>{(team) => (
        <Confirm title={`Remove ${team.name}`} action="Remove" close={() => setRemoving(null)} do={async () => { await ask('DELETE', `/api/v1/teams/${team.id}`); done() }}>A team that users belong to stays.</Confirm>
      )}</Show>
    </div>
  )
}

function Edit(props: { team: Team | null; close: () => void; done: () => void }) {
  const { team } = props
  const [name, setName] = createSignal(team?.name ?? '')
  const work = useWork()
  const submit = async (event: SubmitEvent) => {
    event.preventDefault()
    const saved = await work.run(async () => {
      if (!team) return take(api.POST('/api/v1/teams', { body: { name: name() } }))
      const { tag } = await tagged<Team>(`/api/v1/teams/${team.id}`)
      await ask('PATCH', `/api/v1/teams/${team.id}`, { body: { name: name() }, headers: { 'If-Match': tag } })
    })
    if (saved) props.done()
  }
  return (
    <Modal title={team ? `Rename ${team.name}` : 'Add a team'} close={props.close}>
      <form class="form" onSubmit={submit}>
        <Text label="Name" required value={name()} on={setName} wrong={work.wrong('name')} />
        <Notice>{work.rest('name')}</Notice>
        <div class="buttons"><Button onClick={props.close}>Cancel</Button><Button kind="primary" type="submit" disabled={work.busy()}>Save</Button></div>
      </form>
    </Modal>
  )
}
