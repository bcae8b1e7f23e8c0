//! Notifications at the door: whom the profile at hand names, and what came of telling them.

use super::context::Context;
use super::failure::{FAILED, Failure, Outcome};
use super::json::Message as Line;
use super::output::one_line;
use crate::codes::Code;
use crate::journal::Journal;
use crate::notifications::{self, Delivery, Message, Sent};
use crate::service::voices;
use crate::settings::plan::Plan;

/// The plan of the profile that was chosen.
pub fn plan(context: &Context) -> Result<&Plan, Failure> {
    let profile = context.parsed.profile.as_ref();
    profile
        .map(|p| &p.plan)
        .ok_or_else(|| Failure::usage("a profile says who is told of what; choose one by -P"))
}

/// The plan, and the journal that jobs are written down in.
pub fn plan_and_journal(context: &Context) -> Result<(&Plan, Journal), Failure> {
    let plan = plan(context)?;
    let no_place = "the journal has no place: neither --state-dir, XDG_STATE_HOME nor HOME names one";
    let dir = context.state_dir().ok_or_else(|| Failure::usage(no_place))?;
    Ok((plan, Journal::at(&dir)))
}

/// The error of a profile that names nobody.
pub fn nobody(plan: &Plan) -> Failure {
    let what = format!(
        "the profile `{}` names nobody to tell; it needs [notify.ntfy], [notify.mail] or their like",
        plan.profile
    );
    Failure::usage(what)
}

/// Sends to those who want to hear of it; code 1 when one could not be told.
pub fn send(context: &Context, plan: &Plan, journal: &Journal, message: &Message) -> Outcome {
    if plan.notify.is_empty() {
        return Err(nobody(plan));
    }
    let state = voices::told_file(journal, &plan.profile);
    let sent = notifications::send(&plan.notify, message, state.as_deref(), context.now());
    if sent.is_empty() {
        let what = format!("nobody in [notify] wants to hear of `{}`; see `on`", message.event.word());
        context.output.warn(Code::NotTold, &what);
    }
    tell(context, &sent)
}

/// Says what came of it at each place.
pub fn tell(context: &Context, sent: &[Delivery]) -> Outcome {
    let mut code = 0;
    for delivery in sent {
        let (word, what) = match &delivery.result {
            Sent::Yes(answer) => ("sent", answer.clone()),
            Sent::Held => ("held", "the same was told there a while ago".to_owned()),
            Sent::No(why) => ("failed", why.clone()),
        };
        if word == "failed" {
            code = FAILED;
        }
        if context.output.json {
            let line = Line::new("notification").with("channel", delivery.channel.as_str());
            context.output.result(&line.with("result", word).with("answer", what))?;
        } else if let Some(trouble) = delivery.trouble() {
            context.output.warn(Code::NotTold, &trouble);
        } else {
            context.output.say(&format!("{}: {word}: {}", delivery.channel, one_line(&what)))?;
        }
    }
    Ok(code)
}
