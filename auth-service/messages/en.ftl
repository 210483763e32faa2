### What people read on the pages of the auth service. docs/sign-in.md says how to translate it.
###
### A message is plain text: markup in it is shown, not obeyed. { $… } stands for what the page puts there; names of people and
### applications are printed bold where that helps.

## Everywhere

page-title = { $title } – { $brand }
# Two sentences that are said one after the other.
one-after-another = { $first } { $second }
or-another-way = or
cancel = Cancel
your-account = Your account
back-to-account = Back to your account
passkeys-need-javascript = Passkeys need JavaScript.

## Times and devices

just-now = just now
minutes-ago = { $count ->
    [one] { $count } minute ago
   *[other] { $count } minutes ago
}
hours-ago = { $count ->
    [one] { $count } hour ago
   *[other] { $count } hours ago
}
days-ago = { $count ->
    [one] { $count } day ago
   *[other] { $count } days ago
}
# Firefox on Linux
browser-on-system = { $browser } on { $system }
unknown-device = Unknown device

## Signing in

sign-in = Sign in
sign-in-to-continue = to continue to { $application }
user-name = User name
password = Password
sign-in-button = Sign in
sign-in-with-passkey = Sign in with a passkey
sign-in-passkey-failed = No passkey was used. Try again, or sign in with your password.
continue-with-provider = Continue with { $provider }
password-was-set = Your password has been set. Sign in with it.
passkey-was-added = Your passkey is set up. Sign in with it.
not-signed-in-there = You did not sign in there. Try again, or sign in another way.
wrong-name-or-password = The user name or password is not right.
unknown-passkey = This passkey is not known here. Sign in with your password, or with another passkey.
unknown-passkey-no-passwords = This passkey is not known here. Sign in in another way, or with another passkey.
too-many-attempts = There were too many attempts. Wait a few minutes, then try again.

## The second factor

second-factor = Second factor
second-factor-code-heading = Enter your code
second-factor-passkey-heading = Prove that it is you
second-factor-code = Open your authenticator app and type the code that it shows.
second-factor-code-for = Open your authenticator app and type the code that it shows to continue to { $application }.
second-factor-passkey = Use your passkey.
second-factor-passkey-for = Use your passkey to continue to { $application }.
six-digit-code = Six-digit code
trust-this-browser = { $days ->
    [one] Do not ask for a code in this browser for { $days } day
   *[other] Do not ask for a code in this browser for { $days } days
}
continue-button = Continue
use-a-passkey = Use a passkey
second-factor-passkey-failed = No passkey was used. Try again, or choose another way.
no-device = I do not have my device
no-device-hint = Use one of the recovery codes that you wrote down. Each works once.
recovery-code = Recovery code
use-recovery-code = Use recovery code
wrong-code = This code is not right, or was used before. Wait for the next one, then try again.
wrong-recovery-code = This recovery code is not right, or was used before.
wrong-passkey = This passkey is not one of yours.
too-many-codes = There were too many wrong codes. Use a recovery code, or a browser in which you have signed in before.

## Setting up an authenticator app

set-up-authenticator = Set up an authenticator app
second-factor-needed = This sign-in needs a second factor, and you have none yet.
authenticator-install = Install an authenticator app on your phone, if you have none.
authenticator-scan = Scan this picture with it.
authenticator-picture = QR code with the key below
authenticator-cannot-scan = I cannot scan it
authenticator-type-key = Type this key into the app:
authenticator-type-code = Type the code that the app shows.
confirm = Confirm
authenticator-wrong-code = This code does not fit. Wait for the app to show the next one, and check that the clock of your device is right.

## Recovery codes

recovery-codes = Recovery codes
keep-recovery-codes = Keep these recovery codes
keep-recovery-codes-hint = Each of them signs you in once if you lose your device. Print them or write them down: they are not shown again.
recovery-codes-kept = I have kept them
new-recovery-codes = New recovery codes
new-recovery-codes-hint = You have { NUMBER($count) } left. New ones take the place of all of them.
make-new-codes = Make new codes

## Passwords

change-password = Change password
change-password-heading = Change your password
change-password-hint = Everywhere else you are signed out.
choose-password = Choose a password
choose-password-heading = Choose a new password
choose-password-hint = for { $username }. You are signed out everywhere once it is set.
set-password = Set password
new-password = New password
new-password-hint = { $count ->
    [one] At least { $count } character. Several unusual words are better than one with digits at its end.
   *[other] At least { $count } characters. Several unusual words are better than one with digits at its end.
}
new-password-again = The same once more
passwords-differ = The two passwords are not the same.
password-length = a password has { NUMBER($least) } to { NUMBER($most) } characters

## Why a password is easy to guess

guess-too-easy = This password is too easy to guess.
guess-rows-of-keys = Straight rows of keys are easy to guess.
guess-keyboard-patterns = Short keyboard patterns are easy to guess.
guess-repeats = Repeats like "aaa" are easy to guess.
guess-longer-repeats = Repeats like "abcabcabc" are only slightly harder to guess than "abc".
guess-top-10 = This is a top-10 common password.
guess-top-100 = This is a top-100 common password.
guess-common = This is a very common password.
guess-like-common = This is similar to a commonly used password.
guess-sequences = Sequences like abc or 6543 are easy to guess.
guess-years = Recent years are easy to guess.
guess-one-word = A word by itself is easy to guess.
guess-dates = Dates are often easy to guess.
guess-names = Names and surnames by themselves are easy to guess.
guess-common-names = Common names and surnames are easy to guess.
better-few-words = Use a few words, avoid common phrases.
better-no-symbols-needed = No need for symbols, digits, or uppercase letters.
better-another-word = Add another word or two. Uncommon words are better.
better-capitals = Capitalization doesn't help very much.
better-all-capitals = All-uppercase is almost as easy to guess as all-lowercase.
better-reversed = Reversed words aren't much harder to guess.
better-substitutions = Predictable substitutions like '@' instead of 'a' don't help very much.
better-keyboard-pattern = Use a longer keyboard pattern with more turns.
better-no-repeats = Avoid repeated words and characters.
better-no-sequences = Avoid sequences.
better-no-years = Avoid recent years.
better-no-own-years = Avoid years that are associated with you.
better-no-own-dates = Avoid dates and years that are associated with you.

## Consent

allow-access = Allow access
allow-application = Allow { $application }?
application-wants = You are signed in as { $username }. { $application } ({ $host }) wants to:
application-unchecked = It registered here by itself, and nobody has checked who it is: the name is what it calls itself. What you allow goes to { $host }.
application-of-namespace = It belongs to { $namespace }, whose people have registered it and chosen its name. What you allow goes to { $host }.
application-on-this-device = an application on this device
allow = Allow
do-not-allow = Do not allow
scope-openid = Know that it is you
scope-profile = See your name
scope-email = See your email address
scope-roles = See your roles and groups
scope-groups = See your roles and groups
scope-offline_5faccess = Stay connected when you are not there

## Devices without a browser

connect-device = Connect a device
device-code = Code that your device shows
# How such a code looks.
device-code-shape = XXXX-XXXX
go-on = Go on
device-code-warning = Only go on with a code that you see on a device of your own. Did somebody send you the code or a link to this page? Then close it.
device-unknown-code = No device is waiting with this code. Codes are good for ten minutes and once.
device-too-many-codes = There were too many wrong codes. Wait a few minutes, then try again.
device-connect-application = Connect { $application }?
device-asks = You are signed in as { $username }. A device that shows { $code } asks for your account in { $application }. It will be able to:
device-stays = Stay signed in as you until you disconnect it
device-warning = Is the device in front of you, and did you start this yourself? If somebody sent you the code or a link, they would get into your account: do not allow it.
device-is-mine = Yes, it is my device
device-connected = Your device is connected
device-connected-hint = It goes on by itself within a few seconds. You can close this page.
device-not-allowed = Not allowed
device-not-allowed-hint = The device gets no access. You can close this page.

## Signing out

sign-out = Sign out
sign-out-question = Sign out?
sign-out-asked = An application asks to sign you out of everything that you use with this sign-in.
stay-and-go-back = Stay signed in and go back
stay-signed-in = Stay signed in
signed-out = Signed out
signed-out-heading = You are signed out
signed-out-hint = You can close this page.
sign-in-again = Sign in again
still-signed-in-there = You may still be signed in at { $provider }.
sign-out-there = Sign out there, too
gateway-confirmed = The one gateway in front of your apps has confirmed it.
gateways-confirmed = All { NUMBER($count) } gateways in front of your apps have confirmed it.
gateways-confirmed-some = { NUMBER($confirmed) } of { NUMBER($count) } gateways in front of your apps have confirmed it; the others follow within seconds.

## The account page

account-signed-in-as = Signed in as { $username }
account-signed-in-as-with-email = Signed in as { $username } ({ $email })
account-sessions = Where you are signed in
session-here = – this one
session-detail = { $address } · signed in { $since } · used { $used }
session-detail-two-factors = { $address } · signed in { $since } with two factors · used { $used }
sign-out-session = Sign out
# Read out instead of the one above.
sign-out-session-label = Sign out { $device }, used { $used }
sign-out-here = Sign out here
sign-out-everywhere = Sign out everywhere
account-security = How you sign in
account-password = Password
not-set = Not set
set-a-password = Set a password
authenticator-app = Authenticator app
authenticator-since = set up { $since }
replace = Replace
remove = Remove
remove-authenticator-label = Remove the authenticator app
only-password-protects = Not set up: only your password protects this account.
not-set-up = Not set up
set-up = Set up
passkeys = Passkeys
no-passkey = None: a passkey signs you in without a password.
add-a-passkey = Add a passkey
manage-passkeys = Manage passkeys
connected-sign-ins = Connected sign-ins
none = None
manage = Manage
recovery-codes-left = { NUMBER($count) } left
account-browsers = Browsers that need no second factor
browser-detail = { $address } · since { $since } · used { $used }
forget = Forget
forget-label = Forget { $device }, used { $used }
account-applications = Connected applications
not-connected-now = not connected now
disconnect = Disconnect
disconnect-label = Disconnect { $name }
done-signed-out = That session has ended.
done-browser-forgotten = That browser is asked for a second factor again.
done-disconnected = The application has no access any more.
done-password-changed = Your password has been changed. You are signed out everywhere else.
done-authenticator-set-up = The authenticator app is set up.
done-passkey-added = The passkey is set up.
done-passkey-removed = The passkey has been removed.
done-connected = The sign-in is connected with your account.
done-provider-disconnected = The sign-in is not connected with your account any more.
done-declined = You did not sign in there, so nothing was connected.
done-authenticator-removed = The authenticator app has been removed.

## Passkeys

passkeys-explained = A passkey signs you in with your device's screen lock or a security key, without a password. Nobody can phish it.
passkey-detail = added { $since } · used { $used }
passkey-detail-synced = on several devices · added { $since } · used { $used }
remove-label = Remove { $name }
passkey-name = Name, so that you know it again
passkey-name-example = My phone
# The name of a passkey that was given none.
passkey-numbered = Passkey { NUMBER($number) }
passkey-not-made = No passkey was made. Try again when you are ready.
passkey-known = This device has a passkey for this account already.
passkey-unusable = This passkey could not be used. Try again, or with another device.
new-passkey-for = for { $username }
passkeys-not-here = No passkey can be added here.

## Sign-ins at other providers

connections-explained = Whoever can sign in at a connected place can sign in to this account. Connect only what is yours.
connections-nothing = There is nothing to connect with here.
connection-detail = { $account } · connected { $since } · used { $used }
not-connected = Not connected
connect = Connect
connect-label = Connect { $name }

## Errors

error-reference = Reference:
error-bad-request = This does not work
error-forbidden = Not allowed
error-start-again = Go back to the application and start again from there.
error-not-found = There is no such page
error-not-found-why = The address may have been typed wrongly.
error-not-found-advice = Go back, or start from the application that you want to use.
error-throttled = Too many attempts
error-throttled-advice = Wait a few minutes, then try again.
error-unavailable = Try again in a moment
error-unavailable-why = The sign-in service is not available right now. Nobody has been signed out.
error-unavailable-advice = Reload this page in a few seconds.
error-provider-unavailable = { $provider } cannot be reached right now.
error-provider-unavailable-advice = Go back and try again in a few seconds, or sign in another way. Nobody has been signed out.
error-no-account = There is no account for you here
error-no-account-why = You have signed in at { $provider }, which no account here is connected with.
error-no-account-advice = If you have an account here, sign in to it and connect the two on your account page. Else ask your administrator for one.
error-internal = Something went wrong
error-internal-why = This is our mistake, not yours.
error-internal-advice = Try again, and tell your administrator the reference below if it happens again.
sorry-form-not-ours = This form did not come from our page, or the page is too old.
sorry-page-too-old = This page is too old.
sorry-flow-over = This sign-in page has expired or was used before.
sorry-link-over = This link has expired, was used before, or has been replaced by a newer one.
sorry-sign-in-link-over = this sign-in link has expired or was used before
sorry-too-many-sign-ins = There were too many sign-ins from your network.
sorry-too-many-visits = There were too many visits from your network.
sorry-not-active = this account is not active
sorry-account-changed = The account was changed meanwhile.
sorry-signed-out-meanwhile = You were signed out meanwhile.
sorry-has-second-factor = this account has a second factor already
sorry-application-unknown = this application is not registered here
sorry-application-gone = this application is no longer registered
sorry-redirect-unregistered = the application wants to be answered at an address that is not registered for it
sorry-leave-unregistered = the address to go to after signing out is not registered
sorry-stronger-than-here = This page asks for a stronger sign-in than is set up here.
sorry-browser-not-trusted = That browser is not trusted any more.
sorry-nothing-to-sign-out = There is nothing to sign out of.
sorry-session-over = That session has ended already.
sorry-too-many-passkeys = There are too many passkeys.
sorry-passkey-gone = That passkey has been removed already.
sorry-last-passkey-no-passwords = That is the only way left to sign in. Add another passkey first.
sorry-last-passkey = That is the only way left to sign in. Set a password first.
sorry-no-passwords = Passwords are not used here. Sign in with a passkey or in another way.
sorry-no-code = There is no code in this address.
sorry-not-recent-there = A sign-in of just now is needed here, and { $provider } does not say that yours is one.
sorry-took-too-long = This took too long, or you were signed out meanwhile.
sorry-not-the-answer = This is not the answer that this sign-in was waiting for.
sorry-not-verified = What { $provider } answered could not be verified, so you are not signed in.
sorry-tells-too-much = { $provider } tells more of you than an account can hold. Ask your administrator to map fewer groups.
sorry-taken = That sign-in at { $provider } belongs to another account here.
sorry-occupied = Your account is connected with another sign-in at { $provider }. Disconnect that one first.
sorry-no-sign-out-there = { $provider } offers no way to sign out from here. Sign out on its own pages.
sorry-not-connected = Your account is not connected with { $provider } any more.
sorry-last-way = That is the only way left to sign in. Set a password or add a passkey first.
sorry-last-way-no-passwords = That is the only way left to sign in. Add a passkey first.
