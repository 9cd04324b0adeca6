// Starts the modules of the page. Reading needs none of them.
import { serveCopy } from "./copy.js";
import { serveKeys } from "./keys.js";
import { serveLive } from "./live.js";

serveCopy(document);
serveKeys(document);
serveLive(document, window.htmx);
