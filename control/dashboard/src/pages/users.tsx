// Users: who may log in, as what, with which device.
import { createResource, createSignal, Show } from 'solid-js'
import { all, api, ask, tagged, take, type Role, type Schemas, type User } from '../api/client'
import { can, is, who } from '../session'
import { words } from '../format'
import { act, Button, Check, Confirm, Empty, Head, Modal, Notice, Select, Tag, Text, toast, useWork } from '../ui/parts'
import { List, usePages } from '../ui/pages'

const ROLES = (['operator', 'supervisor', 'administrator'] as const).map((role) => [role, words(role)] as const)

export default function Users() {
  const [editing, setEditing] = createSignal<User | 'new' | null>(null)
  const [teams] = createResource(() => all<Schemas['Team']>('/api/v1/teams').catch(() => []))
  const team = (id?: string | null) => teams()?.find((team) => team.id === id)?.name ?? ''
  const pages = usePages<User>((after) => take(api.GET('/api/v1/users', { params: { query: { after } } })))
  return (
    <div class="page">
      <Head title="Users" sub="Operators take calls, supervisors see their team's, administrators see and set up everything.">
        <Show when={is('administrator')}><Button kind="primary" icon="plus" onClick={() => setEditing('new')}>Add a user</Button></Show>
      </Head>
      <List label="Users" pages={pages} open={is('administrator') ? setEditing : undefined} empty={<Empty title="Nobody yet." />} columns={[
        { title: 'Name', cell: (user) => <><b>{user.display}</b> <span class="muted small">{user.name}</span></> },
        { title: 'Role', kind: 'fit', cell: (user) => words(user.role) },
        { title: 'Team', phone: false, cell: (user) => team(user.team) },
        { title: 'Device', phone: false, cell: (user) => user.device ?? '' },
        { title: 'Login', phone: false, kind: 'fit', cell: (user) => user.disabled ? <Tag tone="bad">Blocked</Tag> : user.second_factor ? <Tag tone="good">Second factor</Tag> : <Tag>Password</Tag> },
        { title: '', kind: 'fit', cell: (user) => <Show when={is('administrator')}><Button tiny onClick={() => setEditing(user)} aria-label={`Change ${user.display}`}>Change</Button></Show> },
      ]} />
      <Show when={editing()} keyed>{(user) => <Edit user={user === 'new' ? null : user} teams={teams() ?? []} close={() => setEditing(null)} done={() => { setEditing(null); void pages.again() }} />}</Show>
    </div>
  )
}

function Edit(props: { user: User | null; teams: Schemas['Team'][]; close: () => void; done: () => void }) {
  const { user } = props
  const [name, setName] = createSignal(user?.name ?? '')
  const [display, setDisplay] = createSignal(user?.display ?? '')
  const [role, setRole] = createSignal<Role>(user?.role ?? 'operator')
  const [team, setTeam] = createSignal(user?.team ?? '')
  const [device, setDevice] = createSignal(user?.device ?? '')
  const [password, setPassword] = createSignal('')
  const [disabled, setDisabled] = createSignal(user?.disabled ?? false)
  const [removing, setRemoving] = createSignal(false)
  const [devices] = createResource(() => can('/devices'), () => all<{ name?: string; user?: string }>('/api/v1/devices').then((all) => all.map((one) => one.name ?? one.user ?? '')).catch(() => []))
  const work = useWork()
  const path = `/api/v1/users/${user?.id}`
  const submit = async (event: SubmitEvent) => {
    event.preventDefault()
    const shared = { display: display(), role: role(), team: team() || null, device: device() || null }
    const saved = await work.run(async () => {
      if (!user) return take(api.POST('/api/v1/users', { body: { ...shared, name: name(), password: password() } }))
      const { tag } = await tagged<User>(path)
      await ask('PATCH', path, { body: { ...shared, disabled: disabled() }, headers: { 'If-Match': tag } })
      if (password()) await ask('PUT', `${path}/password`, { body: { password: password() } })
    })
    if (saved) { toast(user ? 'Saved.' : 'Added.'); props.done() }
  }
  return (
    <Show when={!removing()} fallback={
      <Confirm title={`Remove ${user?.display}`} action="Remove" close={() => setRemoving(false)} do={async () => { await ask('DELETE', path); props.done() }}>They can log in no more, and their keys end.</Confirm>
    }>
      <Modal title={user ? `Change ${user.display}` : 'Add a user'} close={props.close}>
        <form class="form" onSubmit={submit}>
          <div class="row">
            <Text label="Name that people see" required value={display()} on={setDisplay} wrong={work.wrong('display')} />
            <Show when={!user}><Text label="Name to log in with" required value={name()} on={setName} wrong={work.wrong('name')} /></Show>
          </div>
          <div class="row">
            <Select label="Role" value={role()} on={(value) => setRole(value as Role)} options={ROLES} wrong={work.wrong('role')} />
            <Select label="Team" value={team()} on={setTeam} options={[['', 'None'], ...props.teams.map((team) => [team.id, team.name] as const)]} wrong={work.wrong('team')} />
          </div>
          <div class="row">
            <Text label="Device" list="devices" value={device()} on={setDevice} wrong={work.wrong('device')} hint="The SIP account they take calls with" />
            <datalist id="devices">{(devices() ?? []).map((name) => <option value={name} />)}</datalist>
            <Text label={user ? 'New password' : 'Password'} type="password" autocomplete="new-password" required={!user} value={password()} on={setPassword} wrong={work.wrong('password')} hint={user ? 'Leave empty to keep it' : 'At least 12 characters'} />
          </div>
          <Show when={user}><Check label="May not log in" value={disabled()} on={setDisabled} disabled={user?.id === who()?.user.id} /></Show>
          <Notice>{work.rest('display', 'name', 'role', 'team', 'device', 'password')}</Notice>
          <div class="buttons">
            <Show when={user && user.id !== who()?.user.id}>
              <Button kind="danger" onClick={() => setRemoving(true)}>Remove</Button>
              <Button onClick={() => act(() => ask('DELETE', `${path}/sessions`), 'Logged out everywhere.')}>Log out everywhere</Button>
            </Show>
            <Button kind="primary" type="submit" disabled={work.busy()}>{user ? 'Save' : 'Add'}</Button>
          </div>
        </form>
      </Modal>
    </Show>
  )
}
