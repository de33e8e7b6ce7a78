// The mails that a PDS sends, by its own mailer, configured as a PDS is: by PDS_EMAIL_SMTP_URL and
// PDS_EMAIL_FROM_ADDRESS in the environment, and nothing else.
//
// argv:   the directory that @atproto/pds is installed in
// stdin:  the recipient
// stdout: what the server answered to each mail, as JSON
'use strict';

const { createRequire } = require('node:module');
const path = require('node:path');
const fs = require('node:fs');

const installed = createRequire(path.join(process.argv[2], 'package.json'));
const home = path.dirname(installed.resolve('@atproto/pds/package.json'));
const its = createRequire(path.join(home, 'package.json'));

async function main() {
    const { readEnv } = await import(path.join(home, 'dist/config/env.js'));
    const { ServerMailer } = await import(path.join(home, 'dist/mailer/index.js'));
    const nodemailer = its('nodemailer');
    const environment = readEnv();
    // As dist/context.js does it.
    const email = { smtpUrl: environment.emailSmtpUrl, fromAddress: environment.emailFromAddress };
    const transport = nodemailer.createTransport(email.smtpUrl);
    const responses = [];
    const send = transport.sendMail.bind(transport);
    transport.sendMail = async mail => {
        const sent = await send(mail);
        responses.push(sent.response);
        return sent;
    };
    const mailer = new ServerMailer(transport, { email });
    const to = fs.readFileSync(0, 'utf8').trim();
    const handle = 'alice.example';
    await mailer.sendResetPassword({ handle, token: 'AAAAA-11111' }, { to });
    await mailer.sendConfirmEmail({ handle, token: 'BBBBB-22222' }, { to });
    await mailer.sendUpdateEmail({ handle, token: 'CCCCC-33333' }, { to });
    await mailer.sendAccountDelete({ handle, token: 'DDDDD-44444' }, { to });
    await mailer.sendPlcOperation({ token: 'EEEEE-55555' }, { to });
    transport.close();
    process.stdout.write(JSON.stringify(responses));
}

main().catch(error => {
    console.error(error);
    process.exitCode = 1;
});
