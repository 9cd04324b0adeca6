// Starts the modules of the page. Reading needs none of them.
import { serveCopy } from "./copy.js";
import { serveKeys } from "./keys.js";
import { serveLive } from "./live.js";
import { serveViews } from "./views.js";

serveCopy(document);
serveKeys(document);
serveViews(document);
serveLive(document, window.htmx);
