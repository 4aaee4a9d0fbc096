// What stands around every page: where one may go, who one is, and the phone in the page while it is in a call.
import { A, useLocation, type RouteSectionProps } from '@solidjs/router'
import { createEffect, createSignal, For, on, onCleanup, onMount, Show, Suspense } from 'solid-js'
import { calls, connection, watch } from './live'
import { Faults } from './faults'
import { can, is, signOut, who } from './session'
import { switchTheme, theme } from './theme'
import { Icon, type IconName } from './ui/icon'
import { Button } from './ui/parts'
import { Phone } from './call/phone-panel'
import { words } from './format'
import { OwnPresence, watchPresence } from './presence'

type Place = { to: string; name: string; icon: IconName; if?: () => boolean }
const admin = (path: string) => () => is('administrator') && can(path)

const PLACES: { title: string; places: Place[] }[] = [
  { title: 'Calls', places: [
    { to: '/', name: 'Live', icon: 'live' },
    { to: '/records', name: 'Records', icon: 'records' },
    { to: '/kpis', name: 'Figures', icon: 'kpis', if: () => can('/kpis') },
    { to: '/contacts', name: 'Contacts', icon: 'contacts', if: () => can('/contacts') },
    { to: '/do-not-call', name: 'Do not call', icon: 'block', if: () => can('/do-not-call') },
  ] },
  { title: 'Set up', places: [
    { to: '/agents', name: 'Agents', icon: 'agents', if: () => is('supervisor') && can('/agents') },
    { to: '/telephony/trunks', name: 'Trunks', icon: 'trunk', if: admin('/trunks') },
    { to: '/telephony/routes', name: 'Routes', icon: 'route', if: admin('/routes') },
    { to: '/telephony/numbers', name: 'Numbers', icon: 'number', if: admin('/numbers') },
    { to: '/telephony/devices', name: 'Devices', icon: 'device', if: admin('/devices') },
  ] },
  { title: 'Administer', places: [
    { to: '/people/users', name: 'Users', icon: 'people', if: () => is('supervisor') },
    { to: '/people/teams', name: 'Teams', icon: 'people', if: () => is('supervisor') },
    { to: '/keys', name: 'API keys', icon: 'key' },
    { to: '/webhooks', name: 'Webhooks', icon: 'webhook', if: admin('/webhooks') },
    { to: '/api/v1/docs', name: 'HTTP interface', icon: 'link' },
    { to: '/audit', name: 'Audit log', icon: 'audit', if: () => is('administrator') },
    { to: '/erasure', name: 'Personal data', icon: 'erase', if: admin('/people/erasure') },
  ] },
]

export function Frame(props: RouteSectionProps) {
  const [open, setOpen] = createSignal(false)
  const location = useLocation()
  let main!: HTMLElement
  let menu!: HTMLDivElement
  onMount(() => onCleanup(watch()))
  watchPresence()
  // Another page: the menu closes, and whoever reads by ear begins at its top.
  createEffect(on(() => location.pathname, (_, before) => {
    setOpen(false)
    if (before !== undefined) main.focus({ preventScroll: true })
    scrollTo(0, 0)
  }))
  createEffect(() => open() && menu.querySelector('a')?.focus())
  const count = () => Object.keys(calls).length
  return (
    <div class="frame" onKeyDown={(event) => event.key === 'Escape' && setOpen(false)}>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); main.focus() }}>Skip to content</a>
      <header class="top">
        <Button kind="quiet" icon="menu" aria-label="Menu" aria-expanded={open()} onClick={() => setOpen(true)} />
        <A href="/" class="brand"><img src="/icon.svg" alt="" />Omnivox</A>
        <OwnPresence />
        <Connection />
      </header>
      <Show when={open()}><button class="veil" tabindex="-1" aria-label="Close the menu" onClick={() => setOpen(false)} /></Show>
      <div class="side" classList={{ open: open() }} ref={menu}>
        <A href="/" class="brand"><img src="/icon.svg" alt="" />Omnivox</A>
        <OwnPresence />
        <nav aria-label="Pages">
          <For each={PLACES}>{(group) => {
            const shown = () => group.places.filter((place) => place.if?.() ?? true)
            return (
              <Show when={shown().length}>
                <section>
                  <h2>{group.title}</h2>
                  <ul><For each={shown()}>{(place) => (
                    <li><A href={place.to} end={place.to === '/'} activeClass="active">
                      <Icon name={place.icon} />{place.name}
                      <Show when={place.to === '/' && count()}><span class="count" aria-label={`${count()} in progress`}>{count()}</span></Show>
                    </A></li>
                  )}</For></ul>
                </section>
              </Show>
            )
          }}</For>
        </nav>
        <div class="me">
          <A href="/account"><span class="cut">{who()?.user.display}</span><span class="small muted">{words(who()?.user.role ?? '')}</span></A>
          <Button kind="quiet" icon={theme() === 'dark' ? 'sun' : 'moon'} aria-label={theme() === 'dark' ? 'Light colours' : 'Dark colours'} onClick={switchTheme} />
          <Button kind="quiet" icon="out" aria-label="Log out" onClick={signOut} />
        </div>
      </div>
      <main id="main" tabindex="-1" ref={main}>
        <Faults />
        <Suspense fallback={<p class="empty">Loading…</p>}>{props.children}</Suspense>
      </main>
      <Phone />
    </div>
  )
}

/** Around what is read by those too who are not logged in. */
export const Outside = (props: RouteSectionProps) => (
  <main id="main" class="outside" tabindex="-1">
    <a href="/" rel="external" class="brand"><img src="/icon.svg" alt="" />Omnivox</a>
    <Suspense fallback={<p class="empty">Loading…</p>}>{props.children}</Suspense>
  </main>
)

export const Connection = () => (
  <span class="connection" data-state={connection()} role="status">{connection() === 'open' ? 'Live' : 'Reconnecting…'}</span>
)
