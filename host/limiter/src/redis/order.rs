//! Which calls of the script carry its text, and what is asked again.
//!
//! By its hash a call costs the server less than with the whole text, but is refused where the script is not known: the server was
//! started anew, another took its place, or somebody had it forget its scripts. Such a call has changed nothing and is made again with the
//! text, once nothing else is under way and before anything new is asked. What was under way behind it is refused as well and
//! follows it again in the old order, unless another host has brought the script in between. Then the one that is made again comes behind
//! a later one, and must not say any more how things were.

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

/// A call that is to be made again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Again<C> {
    pub(super) made: Made,
    pub(super) carried: C,
    /// One that was asked later may have been worked on.
    pub(super) is_late: bool,
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
    pub(super) fn take_refused(&mut self) -> Vec<Again<C>> {
        let refused = std::mem::take(&mut self.refused);
        let worked_on = self.worked_on;
        let again = |(number, carried)| Again { made: self.make(), carried, is_late: number < worked_on };
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
        late: Vec<u64>,
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
                for Again { made, carried, is_late } in order.take_refused() {
                    self.late.extend(is_late.then_some(carried));
                    self.send(made, carried);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_call_is_worked_on_twice_or_behind_a_later_one_unless_it_is_called_late(steps in steps()) {
            let (mut model, mut order) = (Model::default(), Order::new());
            for step in steps {
                model.step(&mut order, step);
            }
            let mut last = 0;
            for call in &model.worked_on {
                prop_assert!(*call > last || model.late.contains(call), "{call} in {:?}", model.worked_on);
                last = last.max(*call);
            }
            model.worked_on.sort_unstable();
            prop_assert!(model.worked_on.is_sorted_by(|a, b| a < b), "{:?}", model.worked_on);
        }

        #[test]
        fn each_call_whose_answer_is_not_lost_is_worked_on(steps in steps(), nobody_else in any::<bool>()) {
            let (mut model, mut order) = (Model::default(), Order::new());
            for step in steps {
                match step {
                    Step::Work { is_lost: true } => {}
                    Step::Bring if nobody_else => {}
                    step => model.step(&mut order, step),
                }
            }
            while !model.travels.is_empty() {
                model.step(&mut order, Step::Work { is_lost: false });
            }
            if nobody_else {
                prop_assert!(model.worked_on.is_sorted() && model.late.is_empty());
            }
            model.worked_on.sort_unstable();
            prop_assert_eq!(model.worked_on, (1..=model.asked).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_call_behind_which_another_host_brought_the_script_is_made_again_as_a_late_one() {
        let mut order = Order::new();
        let first = order.make();
        order.over(first, true);
        let (refused, worked_on) = (order.make(), order.make());
        order.refuse(refused, 'a');
        order.over(worked_on, true);
        let made = Made { number: 4, in_full: true };
        assert_eq!(order.take_refused(), [Again { made, carried: 'a', is_late: true }]);
    }

    #[test]
    fn the_text_goes_along_until_it_is_known_and_once_more_where_it_was_forgotten() {
        let (mut model, mut order) = (Model::default(), Order::new());
        let run = |model: &mut Model, order: &mut Order<u64>| {
            for _ in 0..100 {
                model.step(order, Step::Ask);
                model.step(order, Step::Work { is_lost: false });
            }
            while !model.travels.is_empty() {
                model.step(order, Step::Work { is_lost: false });
            }
        };
        run(&mut model, &mut order);
        assert_eq!(model.in_full, 1);
        model.has_script = false;
        run(&mut model, &mut order);
        // The one that was refused, and the next before that was answered.
        assert_eq!((model.in_full, model.worked_on.len()), (3, 200));
    }
}
