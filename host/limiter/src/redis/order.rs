//! Which calls of the script carry its text, and what is asked again.
//!
//! By its hash a call costs the server less than with the whole text, but is refused where the script is not known: the server was
//! started anew, another took its place, or somebody had it forget its scripts. Such a call has changed nothing and is made again with the
//! text, once nothing else is under way and before anything new is asked. What was under way behind it is either refused as well, and
//! follows it again in the old order, or another host has brought the script in between: then the call is given up, since a check that
//! comes behind a later one would take back what that has told.

use std::collections::BTreeMap;

/// The calls of one connection. `C` is what a call carries.
#[derive(Debug)]
pub(super) struct Order<C> {
    /// Calls so far: the number of the last one.
    begun: u64,
    /// The last call that the server has worked on, or may have.
    worked_on: u64,
    is_known: bool,
    refused: BTreeMap<u64, C>,
}

/// A call that is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) number: u64,
    /// With the script's text.
    pub(super) in_full: bool,
}

/// What is to become of a call that was refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused<C> {
    Again(Made, C),
    TooLate(C),
}

impl<C> Order<C> {
    pub(super) fn new() -> Self {
        Self { begun: 0, worked_on: 0, is_known: false, refused: BTreeMap::new() }
    }

    /// Whether something new may be asked.
    pub(super) fn is_clear(&self) -> bool {
        self.refused.is_empty()
    }

    /// A call is made now. Nothing new while the order is not clear.
    pub(super) fn make(&mut self) -> Made {
        self.begun += 1;
        Made { number: self.begun, in_full: !self.is_known }
    }

    /// A call is over, and the server may have worked on it; `answered` if it surely has.
    pub(super) fn over(&mut self, call: Made, answered: bool) {
        self.worked_on = self.worked_on.max(call.number);
        self.is_known |= call.in_full && answered;
    }

    /// The server did not know the script.
    pub(super) fn refuse(&mut self, call: Made, carried: C) {
        self.is_known = false;
        self.refused.insert(call.number, carried);
    }

    /// What was refused, in the order in which it was asked. Only once nothing is under way.
    pub(super) fn take_refused(&mut self) -> Vec<Refused<C>> {
        let refused = std::mem::take(&mut self.refused);
        let worked_on = self.worked_on;
        let again = |(number, carried)| match number > worked_on {
            true => Refused::Again(self.make(), carried),
            false => Refused::TooLate(carried),
        };
        refused.into_iter().map(again).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// What happens on a connection.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// Something is asked.
        Ask,
        /// The server works on the call that came first; its answer is lost or comes.
        Work { is_lost: bool },
        /// It forgets its scripts.
        Forget,
        /// Another host brings the script.
        Bring,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Ask),
            6 => Just(Step::Work { is_lost: false }),
            1 => Just(Step::Work { is_lost: true }),
            1 => Just(Step::Forget),
            1 => Just(Step::Bring),
        ];
        proptest::collection::vec(step, 1..200)
    }

    /// A server, and those who carry calls there.
    #[derive(Default)]
    struct Model {
        has_script: bool,
        asked: u64,
        travels: VecDeque<(Made, u64)>,
        worked_on: Vec<u64>,
        given_up: Vec<u64>,
        in_full: usize,
    }

    impl Model {
        fn send(&mut self, call: Made, carried: u64) {
            self.in_full += usize::from(call.in_full);
            self.travels.push_back((call, carried));
        }

        fn step(&mut self, order: &mut Order<u64>, step: Step) {
            match step {
                Step::Ask if order.is_clear() && self.travels.len() < 3 => {
                    self.asked += 1;
                    self.send(order.make(), self.asked);
                }
                Step::Work { is_lost } => {
                    let Some((call, carried)) = self.travels.pop_front() else { return };
                    self.has_script |= call.in_full;
                    if self.has_script {
                        self.worked_on.push(carried);
                    }
                    // A call whose answer is lost may have been worked on or refused.
                    match (is_lost, self.has_script) {
                        (false, false) => order.refuse(call, carried),
                        (_, has_script) => order.over(call, has_script && !is_lost),
                    }
                }
                Step::Ask => {}
                Step::Forget => self.has_script = false,
                Step::Bring => self.has_script = true,
            }
            if self.travels.is_empty() {
                for refused in order.take_refused() {
                    match refused {
                        Refused::Again(call, carried) => self.send(call, carried),
                        Refused::TooLate(carried) => self.given_up.push(carried),
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_call_is_worked_on_behind_a_later_one_or_twice(steps in steps()) {
            let (mut model, mut order) = (Model::default(), Order::new());
            for step in steps {
                model.step(&mut order, step);
            }
            prop_assert!(model.worked_on.is_sorted_by(|a, b| a < b), "{:?}", model.worked_on);
            prop_assert!(model.given_up.iter().all(|call| !model.worked_on.contains(call)));
        }

        #[test]
        fn each_call_is_worked_on_where_no_answer_is_lost_and_nobody_else_brings_the_script(steps in steps()) {
            let (mut model, mut order) = (Model::default(), Order::new());
            for step in steps {
                if !matches!(step, Step::Bring | Step::Work { is_lost: true }) {
                    model.step(&mut order, step);
                }
            }
            while !model.travels.is_empty() {
                model.step(&mut order, Step::Work { is_lost: false });
            }
            prop_assert_eq!(model.worked_on, (1..=model.asked).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_text_goes_along_until_it_is_known_and_once_more_where_it_was_forgotten() {
        let (mut model, mut order) = (Model::default(), Order::new());
        let run = |model: &mut Model, order: &mut Order<u64>| {
            for _ in 0..100 {
                model.step(order, Step::Ask);
                model.step(order, Step::Work { is_lost: false });
            }
        };
        run(&mut model, &mut order);
        assert_eq!(model.in_full, 1);
        model.has_script = false;
        run(&mut model, &mut order);
        assert_eq!((model.in_full, model.worked_on.len()), (2, 200));
    }
}
