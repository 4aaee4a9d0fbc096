// Logging in, and how the first administrator comes in by the code that the server printed.
import { createResource, createSignal, Show, type ParentProps } from 'solid-js'
import { api, take, type Schemas } from '../api/client'
import { signedIn } from '../session'
import { Button, Notice, Text, useWork } from '../ui/parts'

export function SignIn() {
  const [code, setCode] = createSignal(new URLSearchParams(location.hash.slice(1)).get('code') ?? '')
  const [setting, setSetting] = createSignal(location.pathname === '/setup')
  // What ways in there are. All is well or not (503), the answer has the same form.
  const [health] = createResource(() => api.GET('/api/v1/health').then(({ data, error }) => (data ?? error) as Partial<Schemas['Health']> | undefined, () => undefined))
  return (
    <div class="sign-in">
      <main>
        <div class="brand"><img src="/icon.svg" alt="" />Omnivox</div>
        <Show when={setting() && !health()?.set_up} fallback={<LogIn oidc={health()?.oidc} first={health()?.set_up === false ? () => setSetting(true) : undefined} />}>
          <SetUp code={code()} setCode={setCode} back={() => setSetting(false)} />
        </Show>
      </main>
    </div>
  )
}

const Card = (props: ParentProps<{ title: string }>) => <section class="panel"><h1>{props.title}</h1>{props.children}</section>

/** Logs in; whoever is in stays on the page that they asked for. */
const logIn = (name: string, password: string, code?: string) =>
  take(api.POST('/api/v1/session', { body: { name, password, code: code || null } })).then(signedIn)

function LogIn(props: { oidc?: boolean; first?: () => void }) {
  const [name, setName] = createSignal('')
  const [password, setPassword] = createSignal('')
  const [code, setCode] = createSignal('')
  const work = useWork()
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    void work.run(() => logIn(name(), password(), code().replace(/\s/g, '')))
  }
  return (
    <Card title="Log in">
      <form class="form" onSubmit={submit}>
        <Text label="Name" name="username" autocomplete="username" required autofocus value={name()} on={setName} wrong={work.wrong('name')} />
        <Text label="Password" type="password" name="password" autocomplete="current-password" required value={password()} on={setPassword} wrong={work.wrong('password')} />
        <Text label="Code" name="code" inputmode="numeric" autocomplete="one-time-code" maxlength={7} value={code()} on={setCode} hint="Only where your account has a second factor." />
        <Notice>{work.rest('name', 'password')}</Notice>
        <Button kind="primary" type="submit" disabled={work.busy()}>Log in</Button>
        <Show when={props.oidc}><a class="button" href="/api/v1/session/oidc" rel="external">Log in with your organisation</a></Show>
        <Show when={props.first}>{(first) => <Button kind="quiet" onClick={first()}>First start? Use the code that the server printed</Button>}</Show>
      </form>
    </Card>
  )
}

function SetUp(props: { code: string; setCode: (code: string) => void; back: () => void }) {
  const [display, setDisplay] = createSignal('')
  const [name, setName] = createSignal('')
  const [password, setPassword] = createSignal('')
  const work = useWork()
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    void work.run(async () => {
      await take(api.POST('/api/v1/setup', { body: { code: props.code.trim(), name: name(), display: display(), password: password() } }))
      await logIn(name(), password())
      history.replaceState(null, '', '/')
    })
  }
  return (
    <Card title="Set this server up">
      <form class="form" onSubmit={submit}>
        <Text label="Code" name="setup-code" required value={props.code} on={props.setCode} wrong={work.wrong('code')} hint="The server printed it when it started. It is good for a day, once." />
        <Text label="Your name" name="display" autocomplete="name" required value={display()} on={setDisplay} wrong={work.wrong('display')} />
        <Text label="Name to log in with" name="username" autocomplete="username" required value={name()} on={setName} wrong={work.wrong('name')} hint="Small letters, digits, dot, dash, underscore." />
        <Text label="Password" type="password" name="new-password" autocomplete="new-password" required minlength={12} value={password()} on={setPassword} wrong={work.wrong('password')} hint="At least 12 characters." />
        <Notice>{work.rest('code', 'name', 'display', 'password')}</Notice>
        <Button kind="primary" type="submit" disabled={work.busy()}>Make the first administrator</Button>
        <Button kind="quiet" onClick={props.back}>Back to logging in</Button>
      </form>
    </Card>
  )
}
