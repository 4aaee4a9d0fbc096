// Walks the dashboard in headless Chromium as somebody does who sees it for the first time: `node dashboard.mjs JOB`, a JSON file with `url`,
// `code` (of the first administrator), `profile`, `omnivox` and `sip` (what calls, and where), `sound` (what the caller says), `refusal` (what one
// says who wants nothing), `microphone` and, where pictures are wanted, `shots`, a folder. Prints one line of JSON for each thing that it found.
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'

const require = createRequire(`${process.env.OMNIVOX_TEST_BROWSER}/`)
const puppeteer = require('puppeteer-core').default ?? require('puppeteer-core')
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8')
const job = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const PASSWORD = 'walrus pedal quarry'
const PATIENCE_MS = 45_000

const found = (what, value) => console.log(JSON.stringify([what, value]))
const browser = await puppeteer.launch({
  executablePath: '/usr/bin/chromium',
  userDataDir: job.profile,
  args: [
    '--no-sandbox', '--disable-gpu', '--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream', '--autoplay-policy=no-user-gesture-required',
    '--no-first-run', '--disable-background-networking', ...(job.microphone ? [`--use-file-for-fake-audio-capture=${job.microphone}%noloop`] : []),
  ],
})
const page = (await browser.pages())[0] ?? (await browser.newPage())
page.setDefaultTimeout(PATIENCE_MS)
page.on('console', (message) => console.error('console', message.text()))
page.on('pageerror', (fault) => { console.error('pageerror', fault.message); found('pageerror', fault.message) })
await page.setViewport({ width: 1280, height: 860 })

// Things are found as a screen reader does: by role and name.
const at = (role, name, within = '') => page.locator(`${within}::-p-aria([name="${name}"][role="${role}"])`)
const click = (role, name) => at(role, name).click()
const type = async (name, text, role = 'textbox') => { await at(role, name).fill(text) }
const shows = (selector, text) => page.waitForFunction(
  (selector, text) => [...document.querySelectorAll(selector)].some((one) => one.innerText.includes(text)), { timeout: PATIENCE_MS }, selector, text)
const calls = []
const call = (to, sound = job.sound) => {
  const child = spawn(job.omnivox, ['call', `sip:${to}@${job.sip}`, '--codec', 'PCMU', '--play', sound, '--duration', '60', '--json'], { stdio: 'ignore' })
  calls.push(child)
  return { hangUp: () => child.kill('SIGINT'), over: new Promise((done) => child.once('exit', done)) }
}
const shot = async (name) => { if (job.shots) await page.screenshot({ path: join(job.shots, `dashboard-${name}.png`) }) }
const scheme = (value) => page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value }])

/** What axe finds serious on the page as it is, and whether it is wider than its window. */
async function look(name) {
  await page.evaluate(axe)
  const faults = await page.evaluate(async () => (await window.axe.run(document, { resultTypes: ['violations'] })).violations
    .filter((one) => ['serious', 'critical'].includes(one.impact))
    .map((one) => `${one.id}: ${one.nodes.map((node) => node.target.join(' ')).slice(0, 3).join(', ')}`))
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
  found('look', { name, faults, wider: Math.max(0, wider) })
}

/** Every way in which a page may be looked at. */
async function lookAtAll(name, path, ready) {
  if (path) await page.goto(`${job.url}${path}`)
  await page.waitForSelector(ready)
  await page.waitForFunction(() => ![...document.querySelectorAll('.empty')].some((one) => one.innerText === 'Loading…'))
  for (const [width, height] of [[1280, 860], [360, 740]]) {
    await page.setViewport({ width, height })
    for (const value of ['light', 'dark']) {
      await scheme(value)
      await look(`${name}, ${value}, ${width}`)
      if (width === 1280 && value === 'light') await shot(name)
      if (name === 'record' && value === 'dark' && width === 1280) await shot('record-dark')
      if (['live', 'record'].includes(name) && value === 'dark' && width === 360) await shot(`${name}-phone`)
    }
  }
  await scheme('light')
  await page.setViewport({ width: 1280, height: 860 })
}

const steps = {
  async 'first login'() {
    await page.goto(`${job.url}/setup#code=${job.code}`)
    await page.waitForSelector('form')
    await lookAtAll('setup', null, 'form')
    await type('Your name', 'Ada Lovelace')
    await type('Name to log in with', 'ada')
    await type('Password', PASSWORD)
    await type('Code', 'not this one')
    await click('button', 'Make the first administrator')
    await shows('.notice', 'the code is not right')
    await type('Code', job.code)
    await click('button', 'Make the first administrator')
    await shows('h1', 'Live calls')
    await click('button', 'Log out')
    await shows('h1', 'Log in')
    await lookAtAll('login', null, 'form')
    found('ways in', await page.$$eval('form :is(button, a)', (all) => all.map((one) => one.innerText)))
    await type('Name', 'ada')
    await type('Password', 'not the password')
    await click('button', 'Log in')
    await shows('.notice', 'wrong')
    await type('Password', PASSWORD)
    await click('button', 'Log in')
    await shows('h1', 'Live calls')
    found('logged in', await page.$eval('.me', (one) => one.innerText))
  },

  async 'an agent is made'() {
    await click('link', 'Agents')
    await click('button', 'Add an agent')
    await type('Name', 'helper')
    await click('button', 'Add')
    await shows('h1', 'helper')
    const area = 'textarea.code'
    const text = await page.$eval(area, (one) => one.value)
    // A fault is named while one types, with its line.
    await page.locator(area).fill(text.replace('next = "answer"', 'next = "nowhere"'))
    await shows('.notice', 'nowhere')
    found('fault', await page.$eval('[aria-label="What is wrong"]', (one) => one.innerText))
    await page.locator(area).fill(text.replace('next = "goodbye"\n\n[script.states.goodbye]', 'next = "answer"\n\n[script.states.goodbye]'))
    await shows('.tag', 'Nothing wrong')
    await click('button', 'Begin')
    await shows('.talk', 'Would you like to hear the opening hours?')
    await type('You say', 'yes please')
    await click('button', 'Say')
    await shows('.talk', 'We are open from nine to five.')
    await click('button', 'Save…')
    await type('What is new in it', 'It goes on after the hours')
    await click('button', 'Save and publish')
    await shows('.head .tag', 'Ready')
    await shows('.head', 'Version 2')
    found('agent', await page.$eval('.head', (one) => one.innerText))
    await lookAtAll('agent', null, 'textarea.code')
  },

  async 'it is called from the page'() {
    await click('button', 'Call it now')
    await page.waitForSelector('[data-phase="up"]')
    await click('link', 'Show')
    await shows('.talk .agent', 'Would you like to hear the opening hours?')
    await shows('.talk .caller', 'yes please')
    await shows('.talk .agent', 'We are open from nine to five.')
    found('called from the page', await page.$$eval('.talk li', (all) => all.map((one) => one.innerText.replace(/\s+/g, ' '))))
    await shot('call-from-page')
    await click('button', 'Hang up')
    await shows('.phone', 'You hung up.')
    await click('button', 'Close')
  },

  async 'a call is watched'() {
    call('helper')
    const waiting = call('reception')
    await page.goto(job.url)
    await shows('.wall', 'Agent')
    const queue = 'table[aria-label="Queues"] tbody tr'
    await page.waitForFunction((row) => /reception\s+1\s.*\s1$/s.test(document.querySelector(row)?.innerText ?? ''), {}, queue)
    found('queue', await page.$eval(queue, (one) => one.innerText.replace(/\s+/g, ' ')))
    await lookAtAll('live', null, '.wall li')
    waiting.hangUp()
    await page.waitForFunction((row) => /reception\s+0\s/.test(document.querySelector(row)?.innerText ?? ''), {}, queue)
    await page.waitForFunction(() => document.querySelectorAll('.wall li').length === 1)
    await page.click('.wall a')
    await shows('.talk .agent', 'Would you like to hear the opening hours?')
    await shows('.talk .caller', 'yes please')
    // Until it has been heard: the record has what was heard.
    await shows('.talk .agent:not(.partial)', 'We are open from nine to five.')
    found('watched', await page.$$eval('.talk li', (all) => all.map((one) => one.innerText.replace(/\s+/g, ' '))))
    // Nobody is held where none speaks with another person.
    found('may be held', await page.$('::-p-aria([name="Hold"][role="button"])') !== null)
    await click('button', 'Listen')
    await page.waitForSelector('[data-phase="up"]')
    await click('button', 'Leave')
    await shows('.phone', 'You listen no more.')
    await click('button', 'Close')
    await click('button', 'Transfer')
    await type('To', 'nobody-there')
    await page.select('dialog select', 'warm')
    await look('transfer, light, 1280')
    await click('checkbox', 'They take the call by pressing 1, or leave it by 2')
    await at('button', 'Transfer', 'dialog ').click()
    await shows('dialog', 'write what the person is to hear')
    await type('What they hear first', 'A caller who asks for the opening hours.')
    await at('button', 'Transfer', 'dialog ').click()
    await shows('dialog', 'nobody is called nobody-there here')
    await at('button', 'Cancel', 'dialog ').click()
    await page.waitForFunction(() => !document.querySelector('dialog'))
    found('a transfer to nobody is refused', true)
    await lookAtAll('call', null, '.talk li')
  },

  async 'it is taken over'() {
    await click('button', 'Take over')
    await page.waitForSelector('[data-phase="up"]')
    await page.waitForFunction(() => document.querySelector('.phone .key-4')?.getAttribute('width') > 0)
    found('taken over', await page.$eval('.phone', (one) => one.innerText))
    await shot('take-over')
  },

  async 'it is hung up'() {
    await click('button', 'End the call')
    await shows('h1', 'This call is over')
    found('over', await page.$eval('.head', (one) => one.innerText))
  },

  async 'its record is found and played'() {
    await page.goto(`${job.url}/records`)
    await type('Said', 'nine to five', 'searchbox')
    await click('button', 'Search')
    await page.waitForSelector('.table tbody tr a')
    found('records', await page.$$eval('.table tbody tr', (all) => all.map((one) => one.innerText.replace(/\s+/g, ' '))))
    await lookAtAll('records', null, '.table tbody tr')
    await page.click('.table tbody tr a')
    await page.waitForSelector('.wave')
    await click('button', 'Play')
    await page.waitForFunction(() => Number(document.querySelector('.wave').getAttribute('aria-valuenow')) >= 1)
    await page.waitForSelector('.talk .now')
    found('in step', await page.$eval('.talk .now', (one) => one.innerText.replace(/\s+/g, ' ')))
    await click('button', 'Pause')
    await page.focus('.wave')
    await page.keyboard.press('Home')
    found('by key', await page.$eval('.wave', (one) => one.getAttribute('aria-valuenow')))
    await lookAtAll('record', null, '.wave')
  },

  async 'what its agent did and what it cost'() {
    await call('helper', job.refusal).over
    for (let tries = 0; !(await page.$('.table tbody tr a')); tries++) {
      if (tries === 50) throw new Error('the call is in no list')
      await page.goto(`${job.url}/records?words=goodbye`)
      await page.waitForSelector('.table tbody tr a, .empty')
      await page.waitForFunction(() => ![...document.querySelectorAll('.empty')].some((one) => one.innerText === 'Loading…'))
    }
    await page.click('.table tbody tr a')
    await page.waitForSelector('.stages .tool')
    found('tools', await page.$$eval('.stages .tool', (all) => all.map((one) => one.innerText)))
    found('tools heard', await page.$$eval('.stages [role=listitem]', (all) => all.map((one) => one.getAttribute('aria-label'))))
    found('cost', await page.$$eval('table[aria-label="What the call used and cost"] tbody tr', (all) => all.map((one) => one.innerText.replace(/\s+/g, ' '))))
    await look('record with tools and cost, light, 1280')
  },

  async 'the person is erased'() {
    await page.goto(`${job.url}/records?words=nine%20to%20five`)
    await page.waitForSelector('.table tbody tr a')
    await page.click('.table tbody tr a')
    await page.waitForSelector('.wave')
    await click('button', 'Erase this person')
    await click('button', 'Erase for good')
    await shows('.toasts', 'is erased')
    await page.goto(`${job.url}/records?words=nine%20to%20five`)
    await shows('.empty', 'No call fits.')
    found('erased', await page.$$eval('.table tbody tr', (all) => all.length))
  },

  async 'everywhere by keyboard'() {
    await page.goto(job.url)
    await page.waitForSelector('.frame')
    await page.keyboard.press('Tab')
    found('first stop', await page.evaluate(() => document.activeElement.innerText))
    await page.keyboard.press('Enter')
    found('skips to', await page.evaluate(() => document.activeElement.id))
    await page.setViewport({ width: 360, height: 740 })
    await click('button', 'Menu')
    await page.waitForSelector('.side.open')
    await look('menu, light, 360')
    await shot('menu-360')
    await page.keyboard.press('Escape')
    found('menu closes', await page.$('.side.open') === null)
    await page.setViewport({ width: 1280, height: 860 })
    await click('button', 'Dark colours')
    found('theme', await page.evaluate(() => document.documentElement.dataset.theme))
    await page.reload()
    await page.waitForSelector('.frame')
    found('theme stays', await page.evaluate(() => document.documentElement.dataset.theme))
    await click('button', 'Light colours')
    await click('button', 'Call')
    await page.waitForSelector('dialog[open]')
    await look('new call, light, 1280')
    await shot('new-call')
    // Whoever has no phone of their own names one; what is wrong stands at its field.
    await type('Call', '+4930123456')
    await type('From the phone of', 'nosuch', 'combobox')
    await click('button', 'Call from the phone')
    await shows('dialog .wrong', 'there is no device called nosuch')
    found('wrong phone', await page.$$eval('dialog .field', (all) => all.filter((one) => one.querySelector('.wrong')).map((one) => one.querySelector('label').innerText)))
    await page.select('dialog select', 'other')
    await look('new call without a phone, light, 1280')
    await page.keyboard.press('Escape')
  },

  async 'the reference'() {
    // Its chunk comes when it is opened, and not before.
    const scripts = () => page.evaluate(() => performance.getEntriesByType('resource').filter((one) => one.name.includes('/assets/reference-')).length)
    await page.goto(job.url)
    await page.waitForSelector('.frame')
    found('reference before', await scripts())
    await click('link', 'HTTP interface')
    await page.waitForSelector('.reference details')
    found('reference after', await scripts())
    await type('Find', 'POST startCall', 'searchbox')
    await shows('[role=status]', '1 of')
    await page.focus('.reference summary')
    await page.keyboard.press('Enter')
    await shows('.reference pre', 'curl -X POST')
    found('reference', await page.$eval('.reference details[open]', (one) => one.innerText.replace(/\s+/g, ' ')))
    await lookAtAll('operation', null, '.reference details[open]')
    // Whoever writes a program reads it without being logged in, at the request that a link names.
    await click('button', 'Log out')
    await shows('.outside h1', 'HTTP interface')
    await page.goto(`${job.url}/api/v1/docs#listRecords`)
    await page.reload()
    await shows('.reference details[open]', 'words')
    found('reference outside', await page.$eval('.reference details[open]', (one) => one.id))
    await lookAtAll('reference-outside', null, '.reference details[open]')
    await page.goto(job.url)
    await type('Name', 'ada')
    await type('Password', PASSWORD)
    await click('button', 'Log in')
    await shows('h1', 'Live calls')
  },

  async 'devices, trunks, routes and numbers are added, changed and removed'() {
    const open = async (kind) => { await page.goto(`${job.url}/telephony/${kind}`); await page.waitForSelector('.table tbody tr, .empty strong') }
    const closed = () => page.waitForFunction(() => !document.querySelector('dialog'))
    const row = (name) => page.$$eval('.table tbody tr', (all, name) => all.map((one) => one.innerText.replace(/\s+/g, ' ')).find((text) => text.startsWith(name)), name)
    const value = (name) => page.$$eval('dialog .field', (all, name) => all.find((one) => one.querySelector('label')?.innerText === name)?.querySelector('input, textarea, select')?.value, name)
    // Of the configuration file.
    await open('routes')
    await page.setViewport({ width: 390, height: 844 })
    found('route on a phone', await row('reception'))
    await page.setViewport({ width: 1280, height: 860 })
    await click('button', 'Show reception')
    await page.waitForSelector('dialog fieldset .field')
    found('route of the file', await value('To'))
    await page.keyboard.press('Escape')
    await closed()
    const each = [
      ['devices', 'device', 'carol', { User: 'carol', Password: 'walrus pedal', 'Display name': 'Carol' }, ['Display name', 'Carol Jones']],
      ['trunks', 'trunk', 'carrier', { Name: 'carrier', Addresses: '192.0.2.0/24\n198.51.100.7' }, ['Caller', '+4930123']],
      ['numbers', 'number', '+4930123', { Number: '+4930123', To: 'user carol' }, ['Note', 'The front desk']],
      ['routes', 'route', 'office', { Name: 'office', To: 'user carol', Called: '+4930124*' }, ['Days', 'mon-fri']],
    ]
    for (const [kind, one, name, keys] of each) {
      await open(kind)
      await click('button', `Add a ${one}`)
      await page.waitForSelector('dialog .field')
      await look(`a new ${one}, light, 1280`)
      if (kind === 'devices') {
        // What the server finds wrong stands at its field.
        await type('User', 'carol')
        await click('button', 'Save')
        await shows('dialog .field .wrong', 'password')
        found('wrong at', await page.$$eval('dialog .field', (all) => all.filter((one) => one.querySelector('.wrong')).map((one) => one.querySelector('label').innerText)))
      }
      for (const [label, text] of Object.entries(keys)) await type(label, text)
      await click('button', 'Save')
      await closed()
      await shows('.table tbody', name)
      found(`${one} added`, await row(name))
    }
    for (const [kind, one, name, , [label, text]] of each) {
      await open(kind)
      await click('button', `Change ${name}`)
      await page.waitForSelector('dialog .field')
      found(`${one} keeps its name`, await page.$eval('dialog .field input', (one) => [one.readOnly, one.value]))
      await type(label, text)
      await click('button', 'Save')
      await closed()
      await shows('.toasts', 'Saved')
      await open(kind)
      await click('button', `Change ${name}`)
      await page.waitForSelector('dialog .field')
      found(`${one} changed`, await value(label))
      await page.keyboard.press('Escape')
      await closed()
    }
    const remove = async (kind, name) => {
      await open(kind)
      await click('button', `Change ${name}`)
      await at('button', 'Remove', 'dialog ').click()
      await shows('dialog h2', `Remove ${name}`)
      await at('button', 'Remove', 'dialog ').click()
    }
    await remove('devices', 'carol')
    await shows('dialog .notice', 'others need it')
    await at('button', 'Cancel', 'dialog ').click()
    for (const [kind, one, name] of each.toReversed()) {
      await remove(kind, name)
      await closed()
      await page.waitForFunction((name) => !document.querySelector('.table')?.innerText.includes(name), {}, name)
      found(`${one} removed`, true)
    }
  },

  async 'every other page'() {
    for (const [name, path] of [
      ['figures', '/kpis'], ['contacts', '/contacts'], ['do-not-call', '/do-not-call'], ['agents', '/agents'], ['trunks', '/telephony/trunks'], ['routes', '/telephony/routes'],
      ['numbers', '/telephony/numbers'], ['devices', '/telephony/devices'], ['users', '/people/users'], ['teams', '/people/teams'], ['keys', '/keys'], ['webhooks', '/webhooks'],
      ['audit', '/audit'], ['personal-data', '/erasure'], ['account', '/account'], ['reference', '/api/v1/docs'],
    ]) {
      if (await page.$(`nav a[href="${path}"]`) || path === '/account') await lookAtAll(name, path, 'h1')
    }
    await lookAtAll('records-refused', '/records/refused', '.tabs .active')
    found('refused', await page.$eval('.page', (one) => one.innerText.replace(/\s+/g, ' ')))
    // Nothing stands there, and it is said so with a way back.
    const answer = await page.goto(`${job.url}/no/such/page`)
    await shows('h1', 'There is no such page')
    await lookAtAll('nowhere', null, '.head a.button')
    found('nowhere', answer.status())
    await page.click('.head a.button')
    await shows('h1', 'Live calls')
  },
}

try {
  for (const name of job.steps) {
    console.error('step', name)
    await steps[name]()
    found('done', name)
  }
} catch (fault) {
  console.error(fault.stack, '\nat', page.url(), '\n', await page.evaluate(() => document.body.innerText).catch(() => ''))
  if (job.failure) await page.screenshot({ path: job.failure }).catch(() => {})
  process.exitCode = 1
} finally {
  calls.forEach((child) => child.kill())
  await browser.close()
}
