/** A short definition to begin an agent with. */
export const STARTER = (name: string) => `# Who recognises, what decides, who speaks: docs and agent/agents/desk.toml show everything that can stand here.

[agent]
name = "${name}"
language = "en-US"

[ear]
recognizer = "auto"

[voice]
kind = "auto"

[brain]
kind = "script"

[script]
start = "welcome"
after_no_input = "goodbye"
after_no_match = "goodbye"
no_input = ["Are you still there?"]
no_match = ["Sorry, I did not understand that. Could you say it again?"]

[script.states.welcome]
say = "Hello. Would you like to hear the opening hours?"
next = "answer"

[script.states.answer]

[[script.states.answer.on]]
phrases = ["yes [please]", "[what are] [the|your] opening hours"]
keys = ["1"]
next = "hours"

[[script.states.answer.on]]
phrases = ["no [thank you|thanks]"]
keys = ["2"]
next = "goodbye"

[script.states.hours]
say = "We are open from nine to five."
next = "goodbye"

[script.states.goodbye]
say = "Goodbye."
hang_up = "goodbye"
`
