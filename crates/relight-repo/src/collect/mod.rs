//! Collection: finds what no snapshot needs any more and gives its space back, while writers write.
//!
//! # The protocol
//!
//! A **writer** (session) announces itself, *then* reads the index and the records of condemned packs. It refers to
//! chunks in packs that are not condemned and stores what is not there. To publish it
//!
//! 1. makes its packs and their index segment durable,
//! 2. writes its *intent*: the roots of the snapshot that it is about to publish,
//! 3. reads the records of condemned packs again. What it needs of a condemned pack (one that it found chunks in, or
//!    wrote itself) it stores again; if that cannot be read any more it fails,
//! 4. checks that nobody has given it up, publishes with put-if-absent, and removes the intent.
//!
//! A **collection** takes a lease (at most one is at work), then
//!
//! 1. reads the records of condemned packs and lists the packs,
//! 2. lists sessions and intents, gives dead sessions up,
//! 3. lists the snapshots and reads every manifest,
//! 4. reads the index and, again, the records,
//! 5. **marks**: walks each distinct list node under the roots of *all snapshots and all intents*, and notes for each
//!    chunk it meets one place where it lies (a pack that is not condemned if there is one),
//! 6. **rescues**: a marked chunk that lies in condemned packs only is copied into a new pack,
//! 7. **deletes** packs that an earlier collection condemned,
//! 8. **condemns** packs of which nothing is marked, and packs whose marked chunks it has copied into new packs.
//!
//! `Condemned` is final: no collection takes it back.
//!
//! # Why no chunk of a visible snapshot is ever deleted
//!
//! Let pack P be condemned by record R, and deleted by collection D. D deletes it only if it read R in its step 1.
//! Let S be a session that publishes a snapshot which needs chunk X.
//!
//! - *S read the records (its step 3) when R was there.* Then it does not rely on P: it stored X again.
//! - *S read them before R was there.* Its intent was written before that, so before R, so before D listed the
//!   intents. D finds the intent; or S has removed it, which it does only after publishing (D lists snapshots
//!   later, and finds the snapshot) or after having failed (there is no snapshot). So X is marked in D, and D
//!   deletes P only if X lies in a pack that is not condemned, where D's steps 5 and 6 have put it.
//!
//! Nothing in this speaks of time: clocks that jump, writers that sleep for hours and collections that take days do
//! no harm. That X then stays in its other pack Q follows in the same way, because Q is deleted only by a collection
//! that read Q's record before *it* marked.
//!
//! **Several collections at once.** The lease is meant to prevent it; a holder that slept may still act once after it
//! was replaced. Suppose that D deletes P relying on X in Q, and E deletes Q relying on X in P. Then D read P's
//! record but not Q's, and E read Q's but not P's, in their steps 1 and again in their steps 4, which is impossible:
//! whichever read later saw both. Two that condemn P and Q, each relying on the other, leave X in condemned
//! packs only; the next collection finds that and rescues X before anything of it is deleted.
//!
//! **What a collection writes** are packs and segments like those of a writer, so it announces itself as a session
//! too. Its new packs are durable and in the index before the old ones are condemned.
//!
//! **Orphans**, packs that no segment mentions, are those of a writer that died. They are never just deleted, because
//! a writer that was given up may still write the segment: they are taken into the index and then treated as any
//! other.
//!
//! **Knowledge of a deleted pack** must go before its record does, or a writer that holds an older index would take
//! the pack for a good one. So the record stays until no segment mentions the pack *and* every session that was
//! there after that has ended. Sessions that were given up count as not ended until their mark is cleared away, a
//! week later; a writer that was silent that long (its machine slept) knows it by the clock and writes no segment.
//!
//! **An intent whose session is gone** is a root for a week. Then the name of its snapshot is made void (an empty
//! object is put where the manifest would be, if there is none) and the intent removed: a writer that wakes up after
//! that cannot publish, because it publishes with put-if-absent.
//!
//! # What time is used for
//!
//! Only for comfort, and only that of the storage. A pack is deleted when its record is older than the grace, so that
//! a restore does not have to look for its chunks again, and when every session that was there when it was condemned
//! has ended, so that none has to store things twice. Packs that are younger than the grace or than the oldest session
//! are not condemned: what an interrupted first backup has stored is there for the next attempt.
//!
//! # Object lock
//!
//! A pack that snapshots have locked is not deleted before the last of these locks ends, whatever is condemned; the
//! storage sees to that. So a chunk that was moved stays in its old pack for as long as any snapshot that was there
//! before promised, and readers find it there if the new pack is lost. Snapshots that come later lock the new pack.
//!
//! # What stops a collection
//!
//! It changes nothing if the descriptor is not where it should be (an unmounted disk), if a manifest cannot be read,
//! if a list or a list node cannot be read or a chunk is missing (unless told to go on: what lies below a lost node
//! is then not protected), or if there is no snapshot at all but packs that would be condemned (unless told so). Before each
//! step that deletes or condemns it checks that it still holds the lease. Packs whose entries in the local index do
//! not add up to their length are left alone.

mod adopt;
mod atlas;
mod compact;
mod decide;
mod figures;
mod leftovers;
mod mark;
mod moving;
mod pass;
mod records;
mod survey;

use std::sync::Arc;
use std::time::Duration;

pub use figures::{Amount, Plan, Report};

use crate::control::Control;
use crate::error::Result;
use crate::lease::{COLLECT, Lease};
use crate::repository::Repository;
use crate::session::announce::Presence;

/// What an operator may choose about a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectOptions {
    /// How long packs are kept: before they are condemned, from when they were written; and after, so that restores
    /// that run go on undisturbed. Zero is safe as well.
    pub grace: Duration,
    /// A session that was not heard of for this long, by the clock of the storage, is given up.
    pub session_timeout: Duration,
    /// By how much the clocks of the storage's servers may differ. Packs that were written that long before the oldest
    /// running session are not condemned.
    pub clock_skew: Duration,
    /// Wait for sessions: leave alone what is younger than the oldest of them, and delete what was condemned only when
    /// those that were there have ended. Without that nothing is lost either, but they may have to store things again,
    /// or fail.
    pub wait_for_sessions: bool,
    /// Packs are rewritten when more than this many percent of what they hold is useless. Of metadata packs, half of
    /// it.
    pub max_waste: u8,
    /// At most this many bytes are read in order to rewrite packs.
    pub max_rewrite: Option<u64>,
    /// Rewrite data packs also where they lie in a storage class of their own, which may cost retrieval fees.
    pub rewrite_classed: bool,
    /// Rewrite packs that are sealed under another than the current data key.
    pub reseal: bool,
    /// Condemn packs though there is not one snapshot.
    pub allow_empty: bool,
    /// Go on though parts of snapshots are missing or damaged.
    pub despite_damage: bool,
}

impl Default for CollectOptions {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self {
            grace: day,
            session_timeout: day,
            clock_skew: Duration::from_secs(5 * 60),
            wait_for_sessions: true,
            max_waste: 20,
            max_rewrite: None,
            rewrite_classed: false,
            reseal: false,
            allow_empty: false,
            despite_damage: false,
        }
    }
}

/// Says what a collection would do, and changes nothing.
///
/// # Errors
///
/// Those for which a collection would refuse to work.
pub fn plan(repository: &Arc<Repository>, options: &CollectOptions, control: Control<'_>) -> Result<Plan> {
    repository.check_keys()?;
    pass::Pass::new(repository, options, control, None).plan()
}

/// Collects.
///
/// # Errors
///
/// [`CollectionRunning`](crate::RepoError::CollectionRunning) where another is at work,
/// [`LeaseLost`](crate::RepoError::LeaseLost) where another has taken over,
/// [`CollectionWouldEmpty`](crate::RepoError::CollectionWouldEmpty) and
/// [`CollectionUnsafe`](crate::RepoError::CollectionUnsafe) where it refuses to, and those of the storage.
pub fn collect(
    repository: &Arc<Repository>,
    options: &CollectOptions,
    control: Control<'_>,
) -> Result<Report> {
    // Nobody knows what lies in packs of which the index cannot be read.
    repository.check_keys()?;
    let lease = Lease::acquire(repository, COLLECT)?;
    let presence = Presence::announce(repository.clone())?;
    pass::Pass::new(repository, options, control, Some((&lease, &presence))).collect()
}
