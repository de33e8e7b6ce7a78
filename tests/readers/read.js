// Reads many messages with mailparser (of Nodemailer) and postal-mime (of Cloudflare's workers and of browsers), which
// share no code with the relay, nor with each other.
//
// stdin:  ["base64", ...]
// stdout: [{"mailparser": {...}, "postal-mime": {...}}, ...]   in both the same names:
//         subject, from, to, cc, replyTo: [[name, address], ...], text, html,
//         attachments: [{filename, contentType, disposition, contentId, related, content: base64}, ...]
'use strict';

const { simpleParser } = require('mailparser');

const pairs = list => (list || []).map(one => [one.name || '', one.address]);
const values = field => (field ? [].concat(field).flatMap(one => one.value) : []);

async function byMailparser(octets) {
    // It would put files into the HTML, and make links of a text.
    const mail = await simpleParser(octets, { skipImageLinks: true, skipTextToHtml: true, skipHtmlToText: true });
    return {
        subject: mail.subject || '',
        from: pairs(values(mail.from)),
        to: pairs(values(mail.to)),
        cc: pairs(values(mail.cc)),
        replyTo: pairs(values(mail.replyTo)),
        messageId: mail.messageId,
        text: mail.text || null,
        html: mail.html || null,
        attachments: mail.attachments.map(one => ({
            filename: one.filename || null,
            contentType: one.contentType,
            disposition: one.contentDisposition || null,
            contentId: one.contentId || null,
            related: Boolean(one.related),
            content: one.content.toString('base64')
        }))
    };
}

async function byPostalMime(PostalMime, octets) {
    const mail = await PostalMime.parse(octets);
    return {
        subject: mail.subject || '',
        from: pairs(mail.from ? [mail.from] : []),
        to: pairs(mail.to),
        cc: pairs(mail.cc),
        replyTo: pairs(mail.replyTo),
        messageId: mail.messageId,
        text: mail.text || null,
        html: mail.html || null,
        attachments: mail.attachments.map(one => ({
            filename: one.filename,
            contentType: one.mimeType,
            disposition: one.disposition || null,
            contentId: one.contentId || null,
            related: Boolean(one.related),
            method: one.method || null,
            content: Buffer.from(one.content).toString('base64')
        }))
    };
}

async function main() {
    const { default: PostalMime } = await import('postal-mime');
    const chunks = [];
    for await (const chunk of process.stdin) {
        chunks.push(chunk);
    }
    const found = [];
    for (const message of JSON.parse(Buffer.concat(chunks))) {
        const octets = Buffer.from(message, 'base64');
        found.push({
            mailparser: await byMailparser(octets),
            'postal-mime': await byPostalMime(PostalMime, octets)
        });
    }
    process.stdout.write(JSON.stringify(found));
}

main().catch(error => {
    console.error(error);
    process.exitCode = 1;
});
