//! Places that chunks have left, for whatever chunk comes next.
//!
//! ```text
//!   | idle, 4 MiB    |in use | idle, 2 MiB |      a chunk of 2 MiB gets the right one, one of 6 MiB none of them
//! ```
//!
//! They are not given back to the system: a lookup that has been under way since before may still read there, so they stay
//! mapped, and read as zeros. Neighbours that came from the same source are joined, so that what was used in many pieces can be
//! used as one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Place;
use crate::{CHUNK, Error};

/// Places without memory that can be read.
#[derive(Debug, Default)]
pub(super) struct Idle {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By their addresses.
    places: Vec<Place>,
    /// How many chunk-sized pieces may come to be here at most: there is room for each of them.
    promised: usize,
}

impl Idle {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that a place of `len` bytes can be put here, in whatever pieces.
    pub(super) fn promise(&self, len: usize) -> Result<(), Error> {
        let mut state = self.lock();
        let promised = state.promised + len / CHUNK;
        let more = promised - state.places.len();
        state.places.try_reserve(more).map_err(|_| Error::Memory)?;
        state.promised = promised;
        Ok(())
    }

    /// Says that a place of `len` bytes will not be put here.
    pub(super) fn take_back_promise(&self, len: usize) {
        self.lock().promised -= len / CHUNK;
    }

    /// Takes `len` bytes of the shortest place that has as many, the lowest of these.
    pub(super) fn take(&self, len: usize) -> Option<Place> {
        let mut state = self.lock();
        let fits = state.places.iter().enumerate().filter(|(_, place)| place.len >= len);
        let (at, _) = fits.min_by_key(|(_, place)| place.len)?;
        let rest = state.places[at].len - len;
        Some(if rest == 0 { state.places.remove(at) } else { state.places[at].split(len) })
    }

    /// Puts a place here that was promised.
    pub(super) fn put(&self, mut place: Place) {
        let mut state = self.lock();
        place.is_readable = true;
        let places = &mut state.places;
        let mut at = places.partition_point(|other| other.base < place.base);
        if at < places.len() && place.may_join(&places[at]) {
            let next = places.remove(at);
            place.join(next);
        }
        if at > 0 && places[at - 1].may_join(&place) {
            at -= 1;
            places[at].join(place);
        } else {
            // There is room: it was promised.
            places.insert(at, place);
        }
    }
}
