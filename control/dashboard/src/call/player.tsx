// Plays a recording: read once, drawn and played from memory, so that the audit log has one entry for one hearing.
import { createSignal, onCleanup, Show } from 'solid-js'
import { Fault, send } from '../api/client'
import { clock } from '../format'
import { Button, Notice } from '../ui/parts'
import { peaksOf, Wave, type Peaks } from './wave'

export function usePlayer(call: string) {
  const [peaks, setPeaks] = createSignal<Peaks | null>(null)
  const [state, setState] = createSignal<'none' | 'loading' | 'ready'>('none')
  const [fault, setFault] = createSignal('')
  const [now, setNow] = createSignal(0)
  const [playing, setPlaying] = createSignal(false)
  const audio = new Audio()
  let frame = 0
  const follow = () => {
    setNow(audio.currentTime)
    frame = audio.paused ? 0 : requestAnimationFrame(follow)
  }
  audio.addEventListener('play', () => { setPlaying(true); follow() })
  audio.addEventListener('pause', () => setPlaying(false))
  audio.addEventListener('seeked', () => setNow(audio.currentTime))
  onCleanup(() => { audio.pause(); cancelAnimationFrame(frame); if (audio.src) URL.revokeObjectURL(audio.src) })
  const load = async () => {
    setState('loading')
    try {
      const blob = await (await send('GET', `/api/v1/call-records/${encodeURIComponent(call)}/recording`)).blob()
      setPeaks(await peaksOf(await blob.arrayBuffer()))
      audio.src = URL.createObjectURL(blob)
      setState('ready')
    } catch (thrown) {
      setFault(thrown instanceof DOMException ? 'The browser cannot read this recording.' : Fault.of(thrown).message)
      setState('none')
    }
  }
  const seek = (at_s: number) => { audio.currentTime = at_s; setNow(at_s) }
  const toggle = () => (audio.paused ? void audio.play() : audio.pause())
  const speed = (rate: number) => { audio.playbackRate = rate }
  return { peaks, state, fault, now, playing, load, seek, toggle, speed }
}

const SPEEDS = [1, 1.25, 1.5, 2]

export function Player(props: { player: ReturnType<typeof usePlayer>; names: readonly [string, string] }) {
  const [speed, setSpeed] = createSignal(0)
  const faster = () => { const next = (speed() + 1) % SPEEDS.length; setSpeed(next); props.player.speed(SPEEDS[next]!) }
  return (
    <div class="player">
      <Notice>{props.player.fault()}</Notice>
      <Show when={props.player.peaks()} fallback={
        <Button icon="play" disabled={props.player.state() === 'loading'} onClick={props.player.load}>{props.player.state() === 'loading' ? 'Loading…' : 'Load the recording'}</Button>
      }>
        {(peaks) => (
          <>
            <Wave peaks={peaks()} now_s={props.player.now()} seek={props.player.seek} names={props.names} />
            <div class="bar">
              <Button kind="primary" icon={props.player.playing() ? 'pause' : 'play'} onClick={props.player.toggle}>{props.player.playing() ? 'Pause' : 'Play'}</Button>
              <span class="num">{clock(props.player.now() * 1_000)} / {clock(peaks().duration_s * 1_000)}</span>
              <Button tiny onClick={faster} aria-label={`Speed, ${SPEEDS[speed()]} times`}>{SPEEDS[speed()]}×</Button>
            </div>
          </>
        )}
      </Show>
    </div>
  )
}
