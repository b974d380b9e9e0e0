"""Which words of a person mean: write to me no more, or: write to me again.

Pure. Only a whole message counts: "please stop by the shop" is an invitation. What must not
break: a word that answers a question in ordinary talk ("cancel", "no", "yes") is not in these
tables, since a tap on an appointment's Cancel must not silence a person's bank.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from wabcast.receipts import Wish

STOP: Mapping[str, str] = {
    "en": "stop|stop all|stopall|unsubscribe|opt out|optout|quit|end|revoke|remove me|stop it"
    "|unsubscribe me|stop messages|stop promotions|stop marketing|stop sending|do not contact me",
    "de": "stopp|abmelden|abmeldung|abbestellen|austragen|abbestellung|keine werbung"
    "|keine nachrichten|werbung stoppen",
    "es": "alto|baja|parar|pare|detener|darme de baja|dar de baja|darse de baja|no molestar"
    "|cancelar suscripción|anular suscripción|desuscribir|detener promociones",
    "fr": "arrêt|arrêter|arrêtez|désabonner|me désabonner|se désabonner|désinscrire"
    "|désinscription|désabonnement|arrêter les promotions",
    "pt": "parar|pare|sair|descadastrar|remover|cancelar inscrição|cancelar assinatura"
    "|anular subscrição|não quero receber|parar promoções|me remova",
    "it": "ferma|fermare|basta|disiscrivi|disiscrivimi|cancellami|cancella iscrizione"
    "|annulla iscrizione|disiscriviti|interrompi",
    "nl": "stoppen|afmelden|uitschrijven|meld me af|schrijf me uit",
    "pl": "rezygnuję|rezygnacja|wypisz|wypisz mnie|wypisuję się|zatrzymaj",
    "tr": "dur|durdur|ret|iptal et|abonelikten çık|listeden çık|çıkış",
    "id": "berhenti|hentikan|berhenti berlangganan|jangan kirim lagi|stop promosi",
    "hi": "रोकें|रोको|बंद|बंद करो|बंद करें|रुको|मत भेजो|band karo|band kare|roko",
    "ar": "توقف|إيقاف|أوقف|قف|إلغاء الاشتراك|الغاء الاشتراك|ايقاف|اوقف",
    "ru": "стоп|отписаться|отписка|отпишите|отпишите меня|отписаться от рассылки|хватит",
    "uk": "відписатися|відписка|відпишіть мене",
    "ro": "dezabonare|dezabonează|oprește",
    "cs": "odhlásit|odhlásit se|odhlášení|zastavit",
    "hu": "leiratkozás|leiratkozom",
    "sv": "stopp|avregistrera|avsluta prenumeration|sluta",
    "da": "afmeld|afmeld mig",
    "nb": "avmeld|meld meg av",
    "fi": "lopeta|peruuta tilaus|poista minut",
    "el": "σταμάτα|σταματήστε|διακοπή|διαγραφή|απεγγραφή",
    "he": "הסר|הסירו|הסר אותי|עצור|עצרו|להסרה",
    "fa": "لغو|توقف|لغو اشتراک",
    "ur": "بند کرو|بند کریں|روکیں",
    "bn": "বন্ধ|বন্ধ করুন|থামুন",
    "ta": "நிறுத்து|நிறுத்தவும்",
    "te": "ఆపండి|ఆపు",
    "th": "หยุด|ยกเลิกการรับข่าวสาร|เลิกรับ",
    "vi": "dừng|dừng lại|hủy đăng ký|ngừng",
    "ms": "henti|berhenti langgan|batal langganan",
    "fil": "itigil|tigil|ihinto",
    "sw": "acha|simama|sitisha|jiondoe",
    "ja": "停止|配信停止|退会|購読解除",
    "ko": "수신거부|수신 거부|중지|그만",
    "zh": "退订|退訂|停止|取消订阅|取消訂閱|td",
}
"""By language, between bars. People answer in a language that nobody asked them for, so all of
them are understood from everyone."""

RESUME: Mapping[str, str] = {
    "en": "start|unstop|resume|subscribe|resubscribe|opt in|optin|start promotions",
    "de": "anmelden|wieder anmelden|abonnieren",
    "es": "alta|darme de alta|iniciar|reanudar|suscribir|suscribirme",
    "fr": "reprendre|démarrer|m'abonner|abonner|réabonner",
    "pt": "iniciar|retomar|inscrever|quero receber",
    "it": "riprendi|inizia|iscrivimi|iscriviti",
    "nl": "aanmelden|hervatten|inschrijven",
    "pl": "wznów|zapisz mnie",
    "tr": "başla|başlat|abone ol",
    "id": "mulai|berlangganan|langganan",
    "hi": "शुरू|शुरू करो|शुरू करें",
    "ar": "ابدأ|ابدا|اشتراك|استئناف",
    "ru": "старт|подписаться|возобновить",
    "uk": "підписатися|відновити",
    "el": "εγγραφή|έναρξη",
    "he": "התחל|הצטרף",
    "th": "เริ่ม|สมัครรับข่าวสาร",
    "vi": "bắt đầu|đăng ký",
    "ja": "再開|購読",
    "ko": "수신동의|구독|재개",
    "zh": "订阅|訂閱|恢复订阅",
}

LONGEST = 80
"""Characters; no phrase above comes near, so a long message need not be looked at."""


def wish(*words: str) -> Wish | None:
    """What a message wishes: its text, and the payload of a tap. STOP wins over RESUME.

    Case, accents and whatever stands around the words (spaces, full stops, emoji) are ignored.
    """
    said = {plain(text) for text in words if text and len(text) <= LONGEST}
    if said & _STOP:
        return Wish.STOP
    return Wish.RESUME if said & _RESUME else None


def plain(text: str) -> str:
    """`  STOP!! ` → `stop`, `OPT_OUT` → `opt out`, `Arrêt` → `arret`."""
    spread = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    spread = spread.casefold().replace("ı", "i")  # Turkish, whose capital has the dot
    letters = "".join(
        " " if unicodedata.category(char)[0] in "PSZC" else char
        for char in spread
        # Accents of Latin, Greek and Cyrillic, vowel points of Hebrew and Arabic: people leave
        # them out. Elsewhere a mark is half the syllable.
        if not ("\u0300" <= char <= "\u036f" or "\u05b0" <= char <= "\u05c7")
        and not ("\u064b" <= char <= "\u0655" or char in _JOINERS)
    )
    return " ".join(letters.split())


_JOINERS = frozenset("\u200c\u200d\u2060\ufeff\u00ad\u200b\ufe0f")


def _words(table: Mapping[str, str]) -> frozenset[str]:
    return frozenset(plain(word) for words in table.values() for word in words.split("|"))


_STOP = _words(STOP)
_RESUME = _words(RESUME) - _STOP
