//! Stable words for everything that is warned of, reported or found unhealthy: what the cause is, what follows, what to do.
//!
//! Scripts and people look for these words, so one that has been released is never given another meaning.
//! `docs/codes.md` is this list on paper; `tests/suite/codes.rs` compares the two.

use std::fmt;

/// Makes the enum and what is said about each word of it.
macro_rules! codes {
    ($($name:ident $word:literal $cause:literal $consequence:literal $next:literal)*) => {
        /// What a warning, a problem or a finding is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($name),* }

        impl Code {
            /// Every one of them, in the order of the document.
            pub const ALL: &[Code] = &[$(Code::$name),*];

            /// The word itself, as text ends with it and JSON has it under `code`.
            pub fn word(self) -> &'static str {
                match self { $(Code::$name => $word),* }
            }

            /// What makes it happen.
            pub fn cause(self) -> &'static str {
                match self { $(Code::$name => $cause),* }
            }

            /// What it means for the backups.
            pub fn consequence(self) -> &'static str {
                match self { $(Code::$name => $consequence),* }
            }

            /// What to do about it.
            pub fn next(self) -> &'static str {
                match self { $(Code::$name => $next),* }
            }
        }
    };
}

codes! {
    SourceUnreadable "source-unreadable"
        "A file or directory that was to be backed up could not be read."
        "It is missing from the snapshot; everything else is in it. The exit code is 3."
        "Give the user who runs the backup the right to read it, or exclude it."
    SourceUncertain "source-uncertain"
        "A file changed while it was read, or a database could only be stored as a plain file."
        "It is in the snapshot, labelled as unverified; it may mix two states."
        "Run the backup when nobody writes there, or let it capture databases (`--sqlite auto`)."
    JsonInvalid "json-invalid"
        "A file that should be JSON does not parse, or has a key twice."
        "It is stored byte for byte as it was."
        "Look at the line named and put it right, or find out which program writes it."
    MixturePossible "mixture-possible"
        "A restore over these files did not end well, or is under way."
        "What was backed up may be a mixture of two states."
        "`snapkeep undo ID` takes the restore back, or do it again; `undo --accept ID` says that all is well."
    RuleFailed "rule-failed"
        "A rule of the directory does not hold in what was backed up."
        "The snapshot is there, and what it holds is not what the rules ask for."
        "`snapkeep verify` shows all of it; mend the source or the rule."
    RulesUntried "rules-untried"
        "The snapshot was made, but its rules could not be tried."
        "Nobody knows whether what it holds is right."
        "`snapkeep verify latest` tries them again."
    RulesUnusable "rules-unusable"
        "A rules file cannot be read as one."
        "Nothing was proved with it."
        "Mend the rules file at the place named."
    RulesEmpty "rules-empty"
        "A rules file holds no rule."
        "Nothing was proved with it."
        "Write rules, or let `snapkeep init-rules` propose some."
    RulesGuessed "rules-guessed"
        "Something in the directory was too unclear to propose a rule for."
        "The rules proposed do not cover it."
        "Read the proposal before you use it."
    MapGuessed "map-guessed"
        "Something in the export or the database was too unclear to map."
        "The map proposed does not cover it."
        "Read the map before you use it."
    NotRestored "not-restored"
        "A file could not be restored, or came back otherwise than it was stored."
        "It is missing or wrong at the target; everything else was restored."
        "Look at the reason named; damage in the repository shows with `snapkeep check --read-data`."
    RestoredDifferently "restored-differently"
        "Something was restored, but not just as it was: a link as a file, a device left out, a file stored while it changed."
        "The contents are as they were stored."
        "Restore as root where devices and owners matter."
    NotDumped "not-dumped"
        "Something cannot stand in the archive that was asked for: a socket, for example."
        "The archive lacks it."
        "Restore it instead of dumping it, if it is needed."
    RestoreUnstaged "restore-unstaged"
        "There was no room to write everything beside the target first."
        "The restore went on in place; if it is interrupted, do it again."
        "Make room before the next one."
    RestoreNotNoted "restore-not-noted"
        "The end of a restore could not be written into the repository."
        "Later backups of the place will be called a possible mixture."
        "`snapkeep undo --accept ID` says that what is there is right."
    RestoredGone "restored-gone"
        "The snapshot that had been restored is gone from the repository."
        "Files that it had added stay where they are when the restore is taken back."
        "Remove them by hand if they are not wanted."
    WrittenSince "written-since"
        "A database was written to between the safety snapshot and the restore."
        "Nothing is lost: one more safety snapshot holds what was written."
        "Stop the program that writes to it before you restore."
    HardLinksKeepOld "hard-links-keep-old"
        "The file has other names, and a file that is replaced leaves those behind."
        "The other names keep the old text."
        "Make the links again if they should follow."
    SnapshotAvoided "snapshot-avoided"
        "In the newest snapshot this database was found damaged."
        "An older snapshot was taken, in which it is sound."
        "Name a snapshot by its id to get that very state."
    SnapshotUnreadable "snapshot-unreadable"
        "A snapshot's record is damaged."
        "That snapshot cannot be restored until it is repaired; others are not touched."
        "`snapkeep check` says what is damaged, `snapkeep repair snapshots` what can be done."
    SnapshotUnsearched "snapshot-unsearched"
        "Part of a snapshot could not be read."
        "What it holds there was not searched."
        "`snapkeep check` says what is damaged."
    FileUnsearched "file-unsearched"
        "A stored file could not be read or looked into."
        "What it holds was not searched."
        "`snapkeep check --read-data` says what is damaged."
    NoteUnreadable "note-unreadable"
        "A note about a snapshot is damaged: a tag, a pin or a result."
        "What it said is not known; the snapshot itself is not touched."
        "`snapkeep check` names the snapshot; tag or pin it again."
    RecordCopyUsed "record-copy-used"
        "A small file of the repository is damaged or lost, and its second copy served."
        "Nothing is lost as long as the copy is there."
        "`snapkeep repair snapshots --apply` puts the file back; then look at the disk."
    PackMendedInReading "pack-mended-in-reading"
        "A pack is damaged and was read by way of its parity."
        "Nothing is lost yet; more damage may be more than the parity can mend."
        "`snapkeep repair packs --apply` mends it; then look at the disk."
    IndexTrouble "index-trouble"
        "A local or stored index could not be used or written."
        "Indexes are made from the packs; work is slower, nothing is lost."
        "`snapkeep repair index` makes them anew."
    CheckFound "check-found"
        "A check found something damaged, or could not look at it."
        "The finding names the snapshots and files that it hurts."
        "Follow the step that the finding names."
    RepairFailed "repair-failed"
        "A repair could not put something right."
        "It is as it was before the repair."
        "Look at the reason named, and run `snapkeep check`."
    NotForgotten "not-forgotten"
        "A snapshot could not be removed or put in the trash."
        "It is still there, which does no harm."
        "Run `snapkeep forget` again; look at the rights on the repository."
    ForgetHeld "forget-held"
        "A rule that protects snapshots kept some that the policy would have removed."
        "They stay."
        "Nothing, if that is what you want; the message names the rule."
    PinnedMeanwhile "pinned-meanwhile"
        "A snapshot was pinned while it was being removed."
        "It stays in the trash and is not deleted."
        "`snapkeep undelete` brings it back."
    OldSnapshotKept "old-snapshot-kept"
        "After a snapshot was brought back, its old record could not be removed from the trash."
        "Nothing: it is in the trash once more than it needs to be."
        "Nothing; `snapkeep prune` deletes it in time."
    FreedUnknown "freed-unknown"
        "How much room a removal gives could not be computed."
        "The removal itself is not touched."
        "`snapkeep stats` shows sizes; `snapkeep check` says what cannot be read."
    PruneTrouble "prune-trouble"
        "A collection could not deal with a pack or waits for a session."
        "Some room is not free yet; nothing is lost."
        "Run `snapkeep prune` again; `snapkeep session list` shows who is at work."
    NotCopied "not-copied"
        "A snapshot could not be copied into the other repository."
        "The other repository lacks it."
        "`snapkeep check` both repositories, then copy again."
    SessionEnded "session-ended"
        "A session that was to be evicted had ended by itself."
        "Nothing."
        "Nothing."
    SilentChange "silent-change"
        "A file's contents differ although its size and times do not."
        "The disk or a program changed it without leaving a trace."
        "Look at the disk (`smartctl`), and compare with older snapshots."
    GuardFault "guard-fault"
        "After the command, something was not as a rule or a comparison asks for."
        "The state after it was not committed, or is labelled, as the guard's options say."
        "The message names the file; the first snapshot holds the state before."
    GuardUncompared "guard-uncompared"
        "More tables or databases than a record has room for."
        "Some were not compared with the state before the command."
        "Guard fewer of them at once."
    DrillLeftOver "drill-left-over"
        "A drill that was killed had left its scratch place."
        "It has been removed."
        "Nothing."
    ResultNotRecorded "result-not-recorded"
        "The result of a check or a drill could not be written into the repository."
        "`snapkeep health` does not know of it."
        "Look at the rights on the repository and its room, and run it again."
    PasswordFileReadable "password-file-readable"
        "Other users of the machine can read the password file."
        "Whoever reads it can read the backups."
        "`chmod 600` the file; `snapkeep key passwd` if somebody else may have read it."
    Unencrypted "unencrypted"
        "The repository is not encrypted."
        "It has no keys, and whoever reads it can read the backups."
        "`snapkeep copy` into a new repository that is."
    BackupOverdue "backup-overdue"
        "The newest good snapshot of a set is older than it may be."
        "What has changed since then is in no backup."
        "Run the backup and look at why it did not run or failed: `snapkeep log`."
    BackupMissing "backup-missing"
        "There is no snapshot of something that is to be backed up."
        "It is in no backup at all."
        "Run the backup."
    NewestIncomplete "newest-incomplete"
        "The newest snapshot of a set lacks something that could not be read."
        "What it lacks is as old as the last snapshot that has it."
        "Run `snapkeep backup` by hand and read what it names; give the rights it needs or exclude it."
    NewestUnsound "newest-unsound"
        "In the newest snapshot a database did not pass its check, or a rule does not hold."
        "A restore of it brings the damage back; older snapshots may be sound."
        "`snapkeep verify latest` names it; mend the source, keep an older snapshot (`snapkeep pin`)."
    SourceShrunk "source-shrunk"
        "The newest snapshot holds far less than those before it."
        "Something may have been deleted or emptied; policies may soon forget the last snapshot that has it."
        "`snapkeep diff latest~1 latest` shows what went; pin the older one if it should not have."
    SourceGrown "source-grown"
        "The newest snapshot holds far more than those before it."
        "The disk fills faster, and something may write what it should not."
        "`snapkeep diff latest~1 latest` shows what came."
    TooLittle "too-little"
        "The newest snapshot holds less than the profile says that it must."
        "It is not the backup that was asked for."
        "Look at the source; if less is right now, change `min-files`, `min-bytes` or `min-rows`."
    LiveDamaged "live-damaged"
        "A database in use is damaged."
        "From now on backups hold the damage, and SQLite may give wrong answers."
        "Stop what writes to it; restore it from a snapshot before (`snapkeep restore --in-place`), or `snapkeep db recover`."
    LiveOrphans "live-orphans"
        "A database in use holds rows that refer to rows that are not there."
        "It is sound for SQLite; the application may stumble."
        "`snapkeep db orphans` lists them."
    LiveGone "live-gone"
        "A database that was in the newest backup is not there any more."
        "Later backups will not hold it."
        "Restore it if it was not meant to go."
    LiveUnseen "live-unseen"
        "A database in use could not be looked at."
        "Nobody knows whether it is sound."
        "The message says why; run `snapkeep db check` when it is not locked."
    CheckOverdue "check-overdue"
        "The repository has not been checked for too long."
        "Damage would not be known until a restore meets it."
        "`snapkeep check --read-data`"
    DrillOverdue "drill-overdue"
        "No snapshot has been proven restorable for too long."
        "Nobody knows that a restore would work."
        "`snapkeep drill`"
    DrillFailed "drill-failed"
        "The last drill did not bring back what was stored, or not as it should be."
        "A restore may fail in the same way."
        "`snapkeep drill` again; it names what is wrong."
    CopiesMissing "copies-missing"
        "Small files without which much is lost have no second copy."
        "Damage to one of them would not be mended."
        "`snapkeep repair snapshots --apply` makes the copies."
    ParityMissing "parity-missing"
        "Packs lack the parity that the repository is to have."
        "Damage to one of them could not be mended."
        "`snapkeep repair parity --apply`"
    ClockWrong "clock-wrong"
        "Snapshots are from the future: a clock is or was wrong."
        "Ages and `@TIME` mean little until the clocks agree; nothing is lost."
        "Set this machine's clock, and that of the one that made them."
    SpaceLow "space-low"
        "The disk that the repository lies on is nearly full."
        "Backups will fail when it is."
        "`snapkeep forget --prune` with a policy, or a larger disk."
    SpaceEnding "space-ending"
        "If the repository goes on growing like this, its disk will soon be full."
        "Backups will fail when it is."
        "`snapkeep forget --prune` with a policy, or a larger disk."
    JobFailing "job-failing"
        "A job has failed and not succeeded since."
        "What it was to do is not done."
        "`snapkeep log` shows its last runs."
    JobFailed "job-failed"
        "A job of a profile did not go well at one of its targets."
        "That target lacks what the job was to do; other targets are not touched."
        "The message says why; `snapkeep log` shows earlier runs."
    TriedAgain "tried-again"
        "An attempt of a job failed, and another one is made."
        "Nothing yet."
        "Nothing, if the next attempt goes well."
    JobSaid "job-said"
        "A command that a job runs wrote something besides its own messages."
        "Nothing by itself."
        "Read it."
    HookFailed "hook-failed"
        "A command of yours that runs around jobs failed or took too long."
        "Before a job the job does not begin, unless the hook says `warn`; after it nothing follows."
        "Run the command by hand; what it wrote is in the message and in `snapkeep log`."
    SourceNotDatabase "source-not-database"
        "A source that the profile names as `sqlite:` does not begin like a database."
        "It is stored as a plain file, checked by nobody."
        "Look whether it is the right file; name it without `sqlite:` if it is no database."
    SchedulerSilent "scheduler-silent"
        "A job did not run when it was to."
        "Nothing runs by itself any more, and nobody would hear of it."
        "Look whether the timers or the daemon run: `snapkeep schedule list`."
    RepositoryUnreachable "repository-unreachable"
        "The repository could not be opened."
        "Nothing can be backed up there, and nothing is known of what is."
        "The message says why: mount the disk, give the right password, look at the rights."
    NotTold "not-told"
        "A notification, a ping or figures could not be sent."
        "What it was about is as it was; nobody heard of it that way."
        "`snapkeep -P PROFILE notify test` says what comes back from each place."
    StatusUnwritten "status-unwritten"
        "The status file or the alert log of `health` could not be written."
        "Whoever reads them sees an older judgement."
        "Look at the rights and the room of the directory named."
    JournalUnwritable "journal-unwritable"
        "The journal in the state directory could not be written."
        "What the command did is done; `snapkeep log` does not know of it."
        "Look at the rights and the room of the state directory, or use `--no-journal`."
    JournalTorn "journal-torn"
        "Lines of the journal cannot be read: a crash tore them, or the file was changed."
        "`snapkeep log` does not know what they said; nothing else depends on them."
        "Nothing, unless it comes again and again; then look at the disk."
    JobStatesLost "job-states-lost"
        "What was known of a profile's jobs could not be read."
        "They count as never run: some may run once more than planned."
        "Look at the file that was set aside, and at the disk."
    JobHeld "job-held"
        "A job was due and not begun: the machine is on its battery or busy, or the job was still running."
        "It begins later; one that was still running, at its next time."
        "`[jobs]` in the profile says what holds jobs back; `snapkeep schedule list` shows what is planned."
    WatchIncomplete "watch-incomplete"
        "A source that is to be watched is not there, or the kernel will not watch it."
        "Its changes are looked for about once a minute instead."
        "Make it, or raise `fs.inotify.max_user_watches`."
    ProfileNotReloaded "profile-not-reloaded"
        "The daemon was asked to read its profile again, and it has a mistake."
        "The daemon goes on with what it had read before."
        "Mend the profile at the place named and send the signal again."
    NoPasswordUnattended "no-password-unattended"
        "Nothing in the profile names the repository's password."
        "Jobs that no person is there for cannot open it."
        "Add `password-file` or `password-command` to the profile."
    OutputUnwritable "output-unwritable"
        "What a command had to say could not be written."
        "The work itself is done."
        "Look at where its output goes; the exit code holds."
    MoreLikeThese "more-like-these"
        "There were more warnings of one command than are shown."
        "Nothing by itself."
        "Use `--log-file` or `--json`, which have all of them."
}

impl Code {
    /// The code of this word, and text without it that ends in a word in brackets.
    pub fn of_text(text: &str) -> (Option<Code>, &str) {
        let parts = text.strip_suffix(']').and_then(|text| text.rsplit_once(" ["));
        let found = parts.and_then(|(text, word)| {
            let code = Code::ALL.iter().find(|code| code.word() == word)?;
            Some((Some(*code), text))
        });
        found.unwrap_or((None, text))
    }

    /// What is told about an item is known by what was being done with it. `lost` says that the item could not be handled.
    pub fn during(word: &str, lost: bool) -> Code {
        match (word, lost) {
            ("read" | "scan" | "steady", true) => Code::SourceUnreadable,
            ("read" | "scan" | "steady", false) => Code::SourceUncertain,
            ("dump", _) => Code::NotDumped,
            ("restore", false) => Code::RestoredDifferently,
            ("restore" | "verify" | "delete" | "metadata", _) => Code::NotRestored,
            ("index", _) => Code::IndexTrouble,
            ("check", _) => Code::CheckFound,
            ("repair", _) => Code::RepairFailed,
            ("forget", _) => Code::NotForgotten,
            ("prune", _) => Code::PruneTrouble,
            ("copy", _) => Code::NotCopied,
            ("job", _) => Code::JobFailed,
            (_, true) => Code::NotRestored,
            (_, false) => Code::RestoredDifferently,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
