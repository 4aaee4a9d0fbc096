//! Who holds a leg's line: one occupant at a time, an agent, a program, or nobody in particular ([`app::idle`]). Who is to have it next gets
//! it as soon as the present one has let go; who has left it for somebody else may get it back.

use std::task::{Context, Poll};

use media::LegStats;

use super::ConversationEnd;
use super::app::{self, Conversation, Outcome, Resume};
use super::line::{CallLine, LineControl, LineNote, LineOrder};
use super::log::Providers;

/// Takes a line and holds it until it is closed or released.
pub type Occupation = Box<dyn FnOnce(CallLine) -> Conversation + Send>;

/// A leg's line and its holder; neither is there before the leg's sound is open.
#[derive(Default)]
pub struct HeldLine {
    control: Option<LineControl>,
    /// There where nobody holds it.
    line: Option<CallLine>,
    conversation: Option<Conversation>,
    next: Option<Occupation>,
    /// The conversation that left it while the call is passed on.
    resume: Option<Resume>,
    /// Whoever is letting go of it gets it back at once, told this.
    returns: Option<String>,
    /// Whoever is letting go of it does not get it back.
    is_left_for_good: bool,
}

/// What a line brings.
#[derive(Debug)]
pub enum Happening {
    /// The line tells something.
    Note(LineNote),
    /// Whoever held the line gave it back, of their own accord.
    Conversed(Box<Outcome>),
    /// Whoever held the line had to let go of it: who recognised, thought and spoke there.
    LetGo(Option<Providers>),
}

impl HeldLine {
    /// The line is there: whoever is to have it gets it.
    pub fn open(&mut self, line: CallLine, control: LineControl) {
        self.control = Some(control);
        match self.next.take() {
            Some(occupation) => self.conversation = Some(occupation(line)),
            None => self.line = Some(line),
        }
    }

    /// Sees to it that somebody obeys orders: nobody in particular, where the line is free.
    pub fn attend(&mut self) {
        if self.line.is_some() {
            self.occupy(Box::new(app::idle));
        }
    }

    /// Gives the line to somebody else: at once where nobody holds it, otherwise as soon as it is let go.
    pub fn occupy(&mut self, occupation: Occupation) {
        if let Some(line) = self.line.take() {
            self.conversation = Some(occupation(line));
            return;
        }
        if self.conversation.is_some() && self.next.is_none() {
            self.order(LineOrder::Release);
        }
        self.next = Some(occupation);
    }

    /// The same for good: neither whoever holds it nor whoever has left it gets it back.
    pub fn hand_over(&mut self, occupation: Occupation) {
        (self.resume, self.returns) = (None, None);
        self.is_left_for_good = self.conversation.is_some();
        self.occupy(occupation);
    }

    /// Gives the line back to the conversation that was left, told `why`; false where there is none.
    pub fn return_to_conversation(&mut self, why: String) -> bool {
        if let Some(Resume(resume)) = self.resume.take() {
            self.occupy(Box::new(move |line| resume(why, line)));
            return true;
        }
        // It was told to let go, and has not yet.
        let is_leaving = self.conversation.is_some() && self.next.is_some();
        self.returns = is_leaving.then_some(why);
        is_leaving
    }

    /// Nobody goes back to the conversation that was left.
    pub fn forget_left(&mut self) {
        self.resume = None;
    }

    /// Orders something of the line; false where there is none, or its queue is full.
    pub fn order(&self, order: LineOrder) -> bool {
        self.control.as_ref().is_some_and(|control| control.order(order))
    }

    /// Closes the line: nobody gets it any more, and whoever holds it is told.
    pub fn close(&mut self) {
        self.next = None;
        match &mut self.line {
            Some(line) => {
                line.close();
            }
            None => {
                self.order(LineOrder::Close);
            }
        }
    }

    /// The conversation that still holds the line, to be waited for.
    pub fn take_conversation(&mut self) -> Option<Conversation> {
        self.conversation.take()
    }

    /// Takes the line back from whoever held it, and may want to go on some time.
    pub fn take_back(&mut self, line: CallLine, resume: Option<Resume>) {
        self.conversation = None;
        self.line = Some(line);
        self.resume = resume;
    }

    /// The media figures; `None` while somebody holds the line, or where there never was one.
    #[must_use]
    pub fn stats(&self) -> Option<LegStats> {
        self.line.as_ref().map(CallLine::stats)
    }

    /// The next thing that the line brings.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Happening> {
        if let Some(conversation) = &mut self.conversation
            && let Poll::Ready(outcome) = conversation.as_mut().poll(cx)
        {
            self.conversation = None;
            return Poll::Ready(match self.next.take() {
                Some(occupation) => self.let_go(outcome, occupation),
                None => Happening::Conversed(Box::new(outcome)),
            });
        }
        let Some(control) = &mut self.control else { return Poll::Pending };
        match control.poll_note(cx) {
            Poll::Ready(Some(note)) => Poll::Ready(Happening::Note(note)),
            Poll::Ready(None) => {
                self.control = None;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// The line goes to whoever is to have it next, or back to whoever had it.
    fn let_go(&mut self, mut outcome: Outcome, next: Occupation) -> Happening {
        if std::mem::take(&mut self.is_left_for_good) {
            outcome.resume = None;
        }
        match (self.returns.take(), outcome.resume.take()) {
            (Some(why), Some(Resume(resume))) => self.conversation = Some(resume(why, outcome.line)),
            (Some(why), None) => {
                outcome.end = nobody_to_return_to(&why);
                return Happening::Conversed(Box::new(outcome));
            }
            (None, resume) => {
                self.resume = resume.or(self.resume.take());
                self.conversation = Some(next(outcome.line));
            }
        }
        Happening::LetGo(outcome.providers)
    }
}

/// The end of a call whose caller comes back to somebody that does not go on.
#[must_use]
pub fn nobody_to_return_to(why: &str) -> ConversationEnd {
    ConversationEnd::Failed { what: format!("nobody to return the caller to: {why}"), upstream: false }
}

#[cfg(test)]
#[allow(clippy::panic, clippy::unwrap_used)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::task::Waker;

    use tokio::sync::oneshot;

    use super::*;

    /// Who has held the line, and may still.
    type Holders = Arc<Mutex<Vec<String>>>;

    /// Somebody who holds the line until they are told to let go, and would go on later or not.
    fn somebody(name: &str, holders: &Holders, goes_on: bool) -> (Occupation, oneshot::Sender<()>) {
        let (lets_go, is_to_let_go) = oneshot::channel();
        let (name, holders) = (name.to_owned(), Arc::clone(holders));
        let occupation: Occupation = Box::new(move |line| {
            holders.lock().unwrap().push(name.clone());
            Box::pin(async move {
                let _ = is_to_let_go.await;
                let resume = goes_on.then(|| -> Resume {
                    Resume(Box::new(move |why, _| {
                        holders.lock().unwrap().push(format!("{name} again: {why}"));
                        Box::pin(std::future::pending())
                    }))
                });
                Outcome { end: ConversationEnd::LineClosed, line, providers: None, resume }
            })
        });
        (occupation, lets_go)
    }

    fn next(line: &mut HeldLine) -> Option<Happening> {
        match line.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(happening) => Some(happening),
            Poll::Pending => None,
        }
    }

    fn open(line: &mut HeldLine) {
        let (call_line, control) = CallLine::on(None);
        line.open(call_line, control);
    }

    #[test]
    fn whoever_waits_for_the_line_gets_it_once_it_is_open_or_let_go() {
        let (mut line, holders) = (HeldLine::default(), Holders::default());
        let (agent, agent_lets_go) = somebody("agent", &holders, false);
        line.occupy(agent);
        assert!(holders.lock().unwrap().is_empty() && line.stats().is_none());
        open(&mut line);
        assert_eq!(*holders.lock().unwrap(), ["agent"]);
        let (second, _stays) = somebody("second", &holders, false);
        line.occupy(second);
        let (third, third_lets_go) = somebody("third", &holders, false);
        line.occupy(third);
        assert!(next(&mut line).is_none(), "it is held");
        agent_lets_go.send(()).unwrap();
        assert!(matches!(next(&mut line), Some(Happening::LetGo(None))));
        assert_eq!(*holders.lock().unwrap(), ["agent", "third"], "who is to have it last has it");
        third_lets_go.send(()).unwrap();
        let Some(Happening::Conversed(outcome)) = next(&mut line) else { panic!("they gave it back") };
        line.take_back(outcome.line, None);
        assert!(line.stats().is_some(), "nobody holds it");
    }

    #[test]
    fn whoever_left_goes_on_with_the_line_and_is_told_why() {
        let (mut line, holders) = (HeldLine::default(), Holders::default());
        open(&mut line);
        let (agent, lets_go) = somebody("agent", &holders, true);
        line.occupy(agent);
        let (music, music_lets_go) = somebody("music", &holders, false);
        line.occupy(music);
        lets_go.send(()).unwrap();
        assert!(matches!(next(&mut line), Some(Happening::LetGo(None))));
        assert!(line.return_to_conversation("busy".to_owned()));
        music_lets_go.send(()).unwrap();
        assert!(matches!(next(&mut line), Some(Happening::LetGo(None))));
        assert_eq!(*holders.lock().unwrap(), ["agent", "music", "agent again: busy"]);
    }

    #[test]
    fn whoever_is_still_leaving_gets_it_back_at_once_where_they_would_go_on() {
        for goes_on in [true, false] {
            let (mut line, holders) = (HeldLine::default(), Holders::default());
            open(&mut line);
            let (agent, lets_go) = somebody("agent", &holders, goes_on);
            line.occupy(agent);
            let (music, _stays) = somebody("music", &holders, false);
            line.occupy(music);
            assert!(line.return_to_conversation("busy".to_owned()), "it is leaving");
            lets_go.send(()).unwrap();
            match next(&mut line) {
                Some(Happening::LetGo(None)) if goes_on => {
                    assert_eq!(*holders.lock().unwrap(), ["agent", "agent again: busy"]);
                }
                Some(Happening::Conversed(outcome)) if !goes_on => {
                    assert_eq!(outcome.end, nobody_to_return_to("busy"));
                    assert_eq!(*holders.lock().unwrap(), ["agent"]);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_line_that_is_handed_over_goes_back_to_nobody_who_had_it() {
        // The agent holds it; or has left it, and nobody in particular does.
        for has_left in [false, true] {
            let (mut line, holders) = (HeldLine::default(), Holders::default());
            open(&mut line);
            let (agent, lets_go) = somebody("agent", &holders, true);
            line.occupy(agent);
            let mut lets_go = lets_go;
            if has_left {
                let (idle, idle_lets_go) = somebody("idle", &holders, false);
                line.occupy(idle);
                lets_go.send(()).unwrap();
                assert!(matches!(next(&mut line), Some(Happening::LetGo(None))));
                lets_go = idle_lets_go;
            }
            let (other, _stays) = somebody("other", &holders, true);
            line.hand_over(other);
            lets_go.send(()).unwrap();
            assert!(matches!(next(&mut line), Some(Happening::LetGo(None))));
            assert_eq!(holders.lock().unwrap().last().map(String::as_str), Some("other"));
            assert!(!line.return_to_conversation("busy".to_owned()), "nobody is left to go back to");
        }
    }

    #[test]
    fn nobody_gets_a_line_back_that_was_forgotten_or_closed() {
        let (mut line, holders) = (HeldLine::default(), Holders::default());
        open(&mut line);
        assert!(!line.return_to_conversation("busy".to_owned()), "nobody had it");
        let (agent, lets_go) = somebody("agent", &holders, true);
        line.occupy(agent);
        lets_go.send(()).unwrap();
        let Some(Happening::Conversed(outcome)) = next(&mut line) else { panic!("they gave it back") };
        line.take_back(outcome.line, outcome.resume);
        line.forget_left();
        assert!(!line.return_to_conversation("busy".to_owned()));
        let (agent, _lets_go) = somebody("agent", &holders, true);
        line.occupy(agent);
        let (music, _stays) = somebody("music", &holders, false);
        line.occupy(music);
        line.close();
        assert!(!line.return_to_conversation("busy".to_owned()), "nobody comes after it");
    }
}
