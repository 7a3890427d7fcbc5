use clawhold_skill::skill;

/// Finds an account.
#[skill(name = "crm.find")]
fn find_account(name: String) -> String {
    name
}

/// Finds a contact.
#[skill(name = "crm.find")]
fn find_contact(name: String) -> String {
    name
}

fn main() {}
