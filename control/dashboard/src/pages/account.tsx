// One's own account: the password and the second factor.
import { createSignal, Show } from 'solid-js'
import { encode } from 'uqr'
import { api, take, type Schemas } from '../api/client'
import { begin, signedIn, who } from '../session'
import { when, words } from '../format'
import { Button, Head, Notice, Panel, Tag, Text, toast, useWork } from '../ui/parts'

export default function Account() {
  const user = () => who()!.user
  return (
    <div class="page">
      <Head title={user().display} sub={`${user().name}, ${words(user().role).toLowerCase()}`} />
      <div class="columns">
        <div><SecondFactor /><Password /></div>
        <div>
          <Panel title="Account">
            <dl class="facts"><dt>Device</dt><dd>{user().device ?? 'None'}</dd><dt>Since</dt><dd>{when(user().created_at)}</dd></dl>
          </Panel>
        </div>
      </div>
    </div>
  )
}

function Password() {
  const [current, setCurrent] = createSignal('')
  const [wanted, setWanted] = createSignal('')
  const work = useWork()
  const submit = async (event: SubmitEvent) => {
    event.preventDefault()
    if (await work.run(() => take(api.PUT('/api/v1/me/password', { body: { current: current(), new: wanted() } })))) {
      toast('The password is changed: log in with it.')
      signedIn(null)
    }
  }
  return (
    <Panel title="Password">
      <form class="form" onSubmit={submit}>
        <input type="text" hidden autocomplete="username" value={who()?.user.name} aria-label="Name" />
        <div class="row">
          <Text label="The one so far" type="password" autocomplete="current-password" required value={current()} on={setCurrent} wrong={work.wrong('current')} />
          <Text label="The new one" type="password" autocomplete="new-password" required minlength={12} value={wanted()} on={setWanted} wrong={work.wrong('new')} hint="At least 12 characters. Every session of yours ends." />
        </div>
        <Notice>{work.rest('current', 'new')}</Notice>
        <div class="buttons"><Button type="submit" disabled={work.busy()}>Change the password</Button></div>
      </form>
    </Panel>
  )
}

function SecondFactor() {
  const [proposed, setProposed] = createSignal<Schemas['Proposed'] | null>(null)
  const [code, setCode] = createSignal('')
  const [password, setPassword] = createSignal('')
  const work = useWork()
  const has = () => who()!.user.second_factor
  const propose = () => work.run(async () => setProposed(await take(api.POST('/api/v1/me/second-factor'))))
  const submit = async (event: SubmitEvent) => {
    event.preventDefault()
    const secret = proposed()
    const done = await work.run(() => secret
      ? take(api.PUT('/api/v1/me/second-factor', { body: { secret: secret.secret, proof: secret.proof, code: code().replace(/\s/g, ''), password: password() } }))
      : take(api.DELETE('/api/v1/me/second-factor', { body: { password: password() } })))
    if (!done) return
    toast(secret ? 'From now on logging in asks for a code.' : 'Logging in asks for the password alone.')
    setProposed(null); setCode(''); setPassword('')
    await begin()
  }
  return (
    <Panel title="Second factor" tools={has() ? <Tag tone="good">On</Tag> : <Tag tone="warn">Off</Tag>}>
      <Show when={has() || proposed()} fallback={
        <div class="form"><p class="muted">Besides the password, logging in asks for a code that an authenticator on your phone shows.</p><Notice>{work.fault()?.message}</Notice><div><Button onClick={propose} disabled={work.busy()}>Set it up</Button></div></div>
      }>
        <form class="form" onSubmit={submit}>
          <Show when={proposed()}>{(proposed) => (
            <>
              <p>Scan this with your authenticator, or type <code>{proposed().secret}</code>.</p>
              <Picture text={proposed().uri} />
              <Text label="Code that it shows" inputmode="numeric" autocomplete="one-time-code" required value={code()} on={setCode} wrong={work.wrong('code')} />
            </>
          )}</Show>
          <Text label="Your password" type="password" autocomplete="current-password" required value={password()} on={setPassword} wrong={work.wrong('password')} />
          <Notice>{work.rest('code', 'password')}</Notice>
          <div class="buttons">
            <Show when={proposed()}><Button onClick={() => setProposed(null)}>Cancel</Button></Show>
            <Button kind={proposed() ? 'primary' : 'danger'} type="submit" disabled={work.busy()}>{proposed() ? 'Use it' : 'Do without it'}</Button>
          </div>
        </form>
      </Show>
    </Panel>
  )
}

/** A QR code. */
function Picture(props: { text: string }) {
  const code = () => encode(props.text, { border: 2 })
  const path = () => code().data.flatMap((row, y) => row.map((on, x) => (on ? `M${x} ${y}h1v1h-1z` : ''))).join('')
  return <svg class="qr" viewBox={`0 0 ${code().size} ${code().size}`} role="img" aria-label="QR code of the secret"><path d={path()} /></svg>
}
