// Which page stands at which address, and whether somebody is logged in at all.
import { A, Route, Router } from '@solidjs/router'
import { lazy, Match, onMount, Switch } from 'solid-js'
import { Empty, Head, Toasts } from './ui/parts'
import { begin, who } from './session'
import { Frame, Outside } from './frame'
import { SignIn } from './pages/sign-in'
import { Wall } from './pages/wall'

const pages = {
  '/live/:id': lazy(() => import('./pages/call')),
  '/records': lazy(() => import('./pages/records')),
  '/records/refused': lazy(() => import('./pages/refused')),
  '/records/:id': lazy(() => import('./pages/record')),
  '/kpis': lazy(() => import('./pages/kpis')),
  '/contacts': lazy(() => import('./pages/contacts')),
  '/do-not-call': lazy(() => import('./pages/do-not-call')),
  '/agents': lazy(() => import('./pages/agents')),
  '/agents/:name': lazy(() => import('./pages/agent')),
  '/telephony/:kind': lazy(() => import('./pages/telephony')),
  '/people/users': lazy(() => import('./pages/users')),
  '/people/teams': lazy(() => import('./pages/teams')),
  '/keys': lazy(() => import('./pages/keys')),
  '/webhooks': lazy(() => import('./pages/webhooks')),
  '/webhooks/:id': lazy(() => import('./pages/webhook')),
  '/audit': lazy(() => import('./pages/audit')),
  '/erasure': lazy(() => import('./pages/erasure')),
  '/account': lazy(() => import('./pages/account')),
  '/api/v1/docs': lazy(() => import('./pages/reference')),
}

/** An address that leads nowhere. */
const Nowhere = () => (
  <div class="page">
    <Head title="There is no such page" sub={<code>{location.pathname}</code>}><A href="/" class="button">To the live calls</A></Head>
    <div class="panel"><Empty title="Nothing stands at this address.">It may have been mistyped, or what it showed is gone.</Empty></div>
  </div>
)

export function App() {
  onMount(() => void begin())
  return (
    <>
      <Switch fallback={<p class="empty">Loading…</p>}>
        <Match when={who() === null && location.pathname === '/api/v1/docs'}>
          <Router root={Outside}><Route path="/api/v1/docs" component={pages['/api/v1/docs']} /><Route path="*" component={SignIn} /></Router>
        </Match>
        <Match when={who() === null}><SignIn /></Match>
        <Match when={who()}>
          <Router root={Frame}>
            <Route path={['/', '/setup']} component={Wall} />
            {Object.entries(pages).map(([path, component]) => <Route path={path} component={component} />)}
            <Route path="*" component={Nowhere} />
          </Router>
        </Match>
      </Switch>
      <Toasts />
    </>
  )
}
