// Both sides of a recording as waveforms, the place where it plays, and the keys to go elsewhere.
import { createEffect, on, onCleanup, onMount } from 'solid-js'
import { clock } from '../format'
import { theme } from '../theme'

/** What of a side is drawn: the reach of its samples in each slice, 0 to 1. */
export type Peaks = { caller: Float32Array; agent: Float32Array; duration_s: number }

/** Samples are decoded at this rate: enough to see speech, and an hour takes 115 MB. */
const DECODED_HZ = 4_000
const SLICES = 4_000

export async function peaksOf(sound: ArrayBuffer): Promise<Peaks> {
  const decoded = await new OfflineAudioContext(2, 1, DECODED_HZ).decodeAudioData(sound)
  const side = (channel: number) => reach(decoded.getChannelData(Math.min(channel, decoded.numberOfChannels - 1)), SLICES)
  return { caller: side(0), agent: side(1), duration_s: decoded.duration }
}

/** The greatest reach of each slice. */
export function reach(samples: Float32Array, slices: number): Float32Array {
  const found = new Float32Array(Math.min(slices, samples.length))
  const step = samples.length / Math.max(1, found.length)
  for (let slice = 0; slice < found.length; slice++) {
    let most = 0
    for (let at = Math.floor(slice * step); at < Math.floor((slice + 1) * step); at++) most = Math.max(most, Math.abs(samples[at] ?? 0))
    found[slice] = most
  }
  return found
}

export function Wave(props: { peaks: Peaks; now_s: number; seek: (at_s: number) => void; names: readonly [string, string] }) {
  let canvas!: HTMLCanvasElement
  let box!: HTMLDivElement
  const draw = () => {
    const context = canvas.getContext('2d')
    if (!context) return
    const [width, height, scale] = [box.clientWidth, box.clientHeight, devicePixelRatio || 1]
    canvas.width = width * scale
    canvas.height = height * scale
    context.scale(scale, scale)
    const style = getComputedStyle(document.documentElement)
    const colour = (name: string) => style.getPropertyValue(name)
    const at = (props.now_s / props.peaks.duration_s) * width
    const loudest = Math.max(0.05, ...[props.peaks.caller, props.peaks.agent].map((side) => side.reduce((most, one) => Math.max(most, one), 0)))
    const sides = [[props.peaks.caller, '--wave-caller', '--caller', 0.27], [props.peaks.agent, '--wave-agent', '--agent', 0.73]] as const
    for (const [peaks, to_come, played, middle] of sides) {
      for (let x = 0; x < width; x += 2) {
        const [from, until] = [Math.floor((x / width) * peaks.length), Math.max(1, Math.ceil(((x + 2) / width) * peaks.length))]
        let most = 0
        for (let slice = from; slice < until; slice++) most = Math.max(most, peaks[slice] ?? 0)
        const half = Math.max(0.5, (most / loudest) * height * 0.21)
        context.fillStyle = colour(x <= at ? played : to_come)
        context.fillRect(x, height * middle - half, 1.4, half * 2)
      }
    }
    context.fillStyle = colour('--ink')
    context.fillRect(Math.round(at), 0, 1.5, height)
  }
  const observer = new ResizeObserver(draw)
  onMount(() => { observer.observe(box); draw() })
  onCleanup(() => observer.disconnect())
  createEffect(on(() => [props.now_s, props.peaks, theme()], draw, { defer: true }))
  const go = (at_s: number) => props.seek(Math.max(0, Math.min(props.peaks.duration_s, at_s)))
  const pointed = (event: PointerEvent) => {
    if (event.type === 'pointermove' && !event.buttons) return
    const bounds = box.getBoundingClientRect()
    go(((event.clientX - bounds.left) / bounds.width) * props.peaks.duration_s)
  }
  const pressed = (event: KeyboardEvent) => {
    const to = { ArrowLeft: props.now_s - 5, ArrowRight: props.now_s + 5, Home: 0, End: props.peaks.duration_s, PageDown: props.now_s - 30, PageUp: props.now_s + 30 }[event.key]
    if (to === undefined) return
    event.preventDefault()
    go(to)
  }
  return (
    <div class="wave" ref={box} role="slider" tabindex="0" aria-label="Place in the recording" aria-valuemin="0" aria-valuemax={Math.round(props.peaks.duration_s)}
      aria-valuenow={Math.round(props.now_s)} aria-valuetext={`${clock(props.now_s * 1_000)} of ${clock(props.peaks.duration_s * 1_000)}`}
      onPointerDown={pointed} onPointerMove={pointed} onKeyDown={pressed}>
      <canvas ref={canvas} aria-hidden="true" />
      <span class="side-name caller" aria-hidden="true">{props.names[0]}</span><span class="side-name agent" aria-hidden="true">{props.names[1]}</span>
    </div>
  )
}
