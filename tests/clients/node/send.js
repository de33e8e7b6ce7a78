// Sends mails by nodemailer, as an application does: the address of the server is a URL, and nothing else is set.
//
// argv:   which nodemailer ("nodemailer6" or "nodemailer"), and the URL
// stdin:  {"mails": [...]}, each as sendMail takes it; "raw" is base64
// stdout: [{"response"} or {"error", "code"}, ...], one a mail
'use strict';

const nodemailer = require(process.argv[2]);

async function main() {
    const chunks = [];
    for await (const chunk of process.stdin) {
        chunks.push(chunk);
    }
    const { mails } = JSON.parse(Buffer.concat(chunks));
    const transport = nodemailer.createTransport(process.argv[3]);
    const outcomes = [];
    for (const mail of mails) {
        if (mail.raw) {
            mail.raw = Buffer.from(mail.raw, 'base64');
        }
        try {
            outcomes.push({ response: (await transport.sendMail(mail)).response });
        } catch (error) {
            outcomes.push({ error: error.message, code: error.responseCode || 0 });
        }
    }
    transport.close();
    process.stdout.write(JSON.stringify(outcomes));
}

main().catch(error => {
    console.error(error);
    process.exitCode = 1;
});
