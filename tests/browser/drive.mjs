// Drives a page in headless Chromium: `node drive.mjs JOB`, a JSON file with `url`, `profile`, `microphone` (WAV, or none) and `steps`:
// ["click", SELECTOR], ["wait", SELECTOR, TEXT] (until an element of it has the text), ["sleep", MS], ["shot", FILE],
// ["size", WIDTH, HEIGHT], ["scheme", "dark"], ["max", SELECTOR] (the largest width in percent of its style since it was asked for
// first), ["text", SELECTOR], ["eval", EXPRESSION], ["kill"] (the browser, without a word to anybody). Prints what `max`, `text` and `eval` found, as JSON, one line each.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const require = createRequire(`${process.env.OMNIVOX_TEST_BROWSER}/`)
const puppeteer = require('puppeteer-core').default ?? require('puppeteer-core')
const job = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const steps = {
  click: (page, selector) => page.click(selector),
  kill: (page) => {
    const chromium = page.browser().process()
    const gone = new Promise((done) => chromium.once('exit', done))
    chromium.kill('SIGKILL')
    return gone
  },
  sleep: (_, ms) => new Promise((done) => setTimeout(done, ms)),
  shot: (page, path) => page.screenshot({ path }),
  size: (page, width, height) => page.setViewport({ width, height }),
  scheme: (page, value) => page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value }]),
  text: async (page, selector) => console.log(JSON.stringify(await page.$$eval(selector, (all) => all.map((one) => one.innerText)))),
  eval: async (page, expression) => console.log(JSON.stringify(await page.evaluate(expression))),
  wait: (page, selector, text) =>
    page.waitForFunction(
      (selector, text) => [...document.querySelectorAll(selector)].some((one) => one.innerText.includes(text)),
      { timeout: 60_000 }, selector, text,
    ),
  max: async (page, selector) =>
    console.log(JSON.stringify(await page.evaluate((selector) => {
      const kept = (window.kept ??= {})
      if (selector in kept) return kept[selector]
      kept[selector] = 0
      const watched = document.querySelector(selector)
      setInterval(() => (kept[selector] = Math.max(kept[selector], parseFloat(watched.style.width) || 0)), 40)
      return 0
    }, selector))),
}

const browser = await puppeteer.launch({
  executablePath: '/usr/bin/chromium',
  userDataDir: job.profile,
  args: [
    '--no-sandbox', '--disable-gpu', '--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream',
    '--autoplay-policy=no-user-gesture-required', '--no-first-run', '--disable-background-networking',
    ...(job.microphone ? [`--use-file-for-fake-audio-capture=${job.microphone}%noloop`] : []),
  ],
})
try {
  const page = (await browser.pages())[0] ?? (await browser.newPage())
  page.on('console', (message) => console.error('console', message.text()))
  page.on('pageerror', (fault) => console.error('pageerror', fault.message))
  await page.setViewport({ width: 900, height: 900 })
  await page.goto(job.url)
  for (const [what, ...with_] of job.steps) await steps[what](page, ...with_)
} finally {
  if (browser.process().exitCode === null && browser.process().signalCode === null) await browser.close()
}
